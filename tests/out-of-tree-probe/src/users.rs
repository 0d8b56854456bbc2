//! The probe `users`: who starts programs. It has no records: its one counter says that the hook is there, and a reader
//! makes a row for each user that the map holds.

use ebpf_process_core::{Column, ColumnId, Declared, EntityKind, KindId, ProbeError, Recorder, Refused, Unit};
use ebpf_process_probes::{Counter, KernelProbe, Layer, Maps, Objects, Reader, Way, aligned};

use crate::launch::start_a_program;

pub static USERS: KernelProbe = KernelProbe::new("users", "who starts programs")
    .off_by_default()
    .objects(Objects::new(aligned!("../bpf/objects/x86_64/users.core.o"), &[]))
    .counters(&[BY_USER])
    .reader(columns, Users::make);

const BY_USER: Counter =
    Counter::new("exec.users", Layer::Task, start_a_program).ways(&[Way::Tracepoint("sched_process_exec", &[])]);

fn user() -> EntityKind {
    EntityKind::new("user").keys(["uid"])
}

fn started() -> Column {
    Column::counter("started", Unit::CALLS, "Programs that a user started")
}

fn unplaced() -> Column {
    Column::counter("exec.unplaced", Unit::CALLS, "Programs of users for whom the map had no place")
}

fn latest() -> Column {
    Column::gauge("exec.latest", Unit::SECONDS, "When the latest program was started, since the boot")
}

fn columns() -> Vec<Declared> {
    vec![Declared::new(user(), started()), Declared::host(unplaced()), Declared::host(latest())]
}

struct Users {
    user: KindId,
    started: ColumnId,
    unplaced: ColumnId,
    latest: ColumnId,
}

impl Users {
    fn make(recorder: &mut Recorder) -> Result<Box<dyn Reader>, Refused> {
        let host = recorder.host_kind();
        let user = recorder.kind(user())?;
        Ok(Box::new(Self {
            user,
            started: recorder.column(user, started())?,
            unplaced: recorder.column(host, unplaced())?,
            latest: recorder.column(host, latest())?,
        }))
    }
}

impl Reader for Users {
    fn read(&mut self, maps: &Maps, recorder: &mut Recorder) -> Result<(), ProbeError> {
        if !maps.counts(BY_USER.name()) {
            return Ok(());
        }
        let number = |name: &str, key: &[u8]| -> std::io::Result<Option<u64>> {
            let mut value = [0; 8];
            Ok(maps.get(name)?.read(key, &mut value)?.then_some(u64::from_ne_bytes(value)))
        };
        let variable = |name: &str| number(name, &[0; 4]).map(Option::unwrap_or_default);
        let users = maps.get("started")?;
        let (mut last, mut uid) = (None::<[u8; 4]>, [0; 4]);
        while users.next_key(last.as_ref().map(<[u8; 4]>::as_slice), &mut uid)? {
            last = Some(uid);
            let Some(count) = number("started", &uid)? else { continue };
            let uid = u32::from_ne_bytes(uid);
            let row = recorder.row(self.user, u64::from(uid), &[&uid.to_string()])?;
            recorder.counter(row, self.started, count);
        }
        let host = recorder.host();
        recorder.counter(host, self.unplaced, variable(".bss")?);
        // Nanoseconds are far below 2^53 for a hundred days.
        recorder.gauge(host, self.latest, std::time::Duration::from_nanos(variable(".data.latest")?).as_secs_f64());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_programs_agree() {
        assert_eq!(USERS.problems(), Vec::<String>::new());
    }
}
