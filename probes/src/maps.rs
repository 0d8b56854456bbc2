//! The maps of a probe that is more than counters, as its reader sees them.

use std::collections::HashMap;
use std::io;

use crate::elements::Elements;
use crate::object_maps::ObjectMaps;

/// The maps of a loaded object, by the names that they have in it.
#[derive(Debug)]
pub struct Maps {
    by_name: HashMap<String, Map>,
    /// The counters that have a hook.
    counters: Vec<&'static str>,
}

/// One map. Keys and values are bytes in the order of the machine; a value of a per-CPU map has one after the other for
/// each processor that may ever be there, each rounded up to 8 bytes.
#[derive(Debug)]
pub struct Map {
    elements: Elements,
    processors: usize,
}

impl Maps {
    pub(crate) fn of(maps: &ObjectMaps, possible_cpus: usize, counters: Vec<&'static str>) -> io::Result<Self> {
        let by_name = maps.readable().map(|(name, is_per_cpu)| {
            let processors = is_per_cpu.then_some(possible_cpus);
            let elements = maps.elements(name, processors)?;
            Ok((name.to_owned(), Map { elements, processors: processors.unwrap_or(1) }))
        });
        Ok(Self { by_name: by_name.collect::<io::Result<_>>()?, counters })
    }

    /// The map of this name. A variable of the object is in the map of its section (`.bss`, `.data`, or what `SEC` says),
    /// whose only key is a `u32` 0.
    ///
    /// # Errors
    /// The object has no such map, or its elements cannot be read one by one.
    pub fn get(&self, name: &str) -> io::Result<&Map> {
        self.by_name.get(name).ok_or_else(|| {
            let mut names: Vec<&str> = self.by_name.keys().map(String::as_str).collect();
            names.sort_unstable();
            let problem = format!("the object has no map {name} that can be read; it has {}", names.join(", "));
            io::Error::new(io::ErrorKind::NotFound, problem)
        })
    }

    /// Whether this counter of the probe has a hook, and so whether its program writes anything to the maps: what nobody
    /// counts is not 0.
    pub fn counts(&self, counter: &str) -> bool {
        self.counters.contains(&counter)
    }
}

impl Map {
    /// The bytes of a key.
    pub const fn key_size(&self) -> usize {
        self.elements.key_size()
    }

    /// The bytes of a value; of a per-CPU map those of all processors.
    pub const fn value_size(&self) -> usize {
        self.elements.value_size()
    }

    /// How many values an element of a per-CPU map has; 1 of any other.
    pub const fn processors(&self) -> usize {
        self.processors
    }

    /// Copies the value of a key to `value`; whether there is such an element. Allocates nothing.
    ///
    /// # Errors
    /// A key or a value of another size, and what bpf(2) says.
    pub fn read(&self, key: &[u8], value: &mut [u8]) -> io::Result<bool> {
        found(self.elements.look_up(key, value))
    }

    /// Sets the value of a key.
    ///
    /// # Errors
    /// A key or a value of another size, and what bpf(2) says.
    pub fn write(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.elements.update(key, value)
    }

    /// Takes an element away; whether there was one.
    ///
    /// # Errors
    /// A key of another size, and what bpf(2) says: of an array nothing can be taken away.
    pub fn remove(&self, key: &[u8]) -> io::Result<bool> {
        found(self.elements.delete(key))
    }

    /// Sets `next` to the key behind `key`, or to the first one; whether there is one. Elements that come or go meanwhile
    /// may be passed over or begin anew, as with any walk over a hash map. Allocates nothing.
    ///
    /// # Errors
    /// A key of another size, and what bpf(2) says.
    pub fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> io::Result<bool> {
        found(self.elements.next_key(key, next))
    }
}

/// "No such element" is an answer.
fn found(done: io::Result<()>) -> io::Result<bool> {
    match done {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}
