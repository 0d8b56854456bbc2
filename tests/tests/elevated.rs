//! The release binary as a privileged plugin of netdata's, started by somebody without rights.

use ebpf_process_tests::elevated::{Grant, Installed};
use ebpf_process_tests::{agent, live};

fn privileged(name: &str, grant: Grant) {
    let installed = agent::can_run().and_then(|()| Installed::new(grant));
    let needs = installed.as_ref().map(drop).map_err(Clone::clone);
    live::test(name, needs, || {
        let installed = installed?;
        installed.serves_and_trusts_nobody()?;
        installed.takes_seconds_alone()
    });
}

#[test]
fn setuid_it_serves_and_reaches_nothing_for_its_caller() {
    privileged("setuid", Grant::Setuid);
}

#[test]
fn with_file_capabilities_it_serves_and_reaches_nothing_for_its_caller() {
    privileged("file-capabilities", Grant::Effective);
}

#[test]
fn with_capabilities_that_it_takes_up_itself_too() {
    privileged("permitted-capabilities", Grant::Permitted);
}

#[test]
fn where_the_unit_withholds_the_rights_it_names_the_drop_in_which_suffices() {
    for grant in [Grant::Setuid, Grant::Permitted] {
        let installed = agent::can_run().and_then(|()| Installed::new(grant));
        let needs = installed.as_ref().map(drop).map_err(Clone::clone);
        live::test(&format!("withheld-{grant:?}"), needs, || {
            let installed = installed?;
            installed.names_the_drop_in()?;
            installed.serves_with_the_drop_in()
        });
    }
}
