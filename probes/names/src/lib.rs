//! Whose a control group or a process is: the systemd unit, the container, the pod, the app.
//!
//! * [`parts`] reads a control group's path: who made the group, and for which unit, container and pod.
//! * A [`Resolver`] adds the names that people gave to containers and pods, from the files of kubelet, containerd,
//!   CRI-O, Podman and Docker. It asks no server and needs no socket.
//! * [`Apps`] reads rules that put processes together under a name, in the language of netdata's `apps_groups.conf`.
//!
//! All three take text that a stranger chose: whoever may make a control group, start a process or label a container.
//! None of them panics, waits or grows by it, and no file is read that is not where it should be.
//!
//! ```
//! let id = "0123456789abcdef".repeat(4);
//! let path = format!("/kubepods/burstable/pod8dbc5577-d0e2-4706-8787-57d52c03ddf2/{id}");
//! let parts = ebpf_process_names::parts(&path);
//! assert_eq!(parts.container, Some(id.as_str()));
//! assert_eq!(parts.pod.as_deref(), Some("8dbc5577-d0e2-4706-8787-57d52c03ddf2"));
//! ```
//!
//! # Rules for apps
//!
//! ```
//! use ebpf_process_names::{Apps, Process};
//!
//! let apps = Apps::read("web: nginx apache* unit=caddy.service\nmail: *imapd 'user=mail'\njava: *org.example.Main*")?;
//! let process = Process { comm: "apache2", ..Process::default() };
//! assert_eq!(apps.app_of(&process), Some("web"));
//! # Ok::<(), ebpf_process_names::AppsError>(())
//! ```
//!
//! A line is the name of an app, a colon, and patterns with blanks between them. The first pattern of the file that fits
//! a process gives it its app; an app may have any number of lines. `#` begins a comment.
//!
//! | pattern | fits a process |
//! |---|---|
//! | `name` | whose name is this one |
//! | `name*` | whose name begins with it |
//! | `*name` | whose name ends with it |
//! | `*text*` | with this text anywhere in the command line, or in the name where there is no command line |
//! | `*` | whichever it is |
//! | `user=`, `cgroup=`, `unit=`, `exe=`, `cmdline=` and a pattern | whose user, control group's path, unit, executable or command line the pattern fits, from end to end |
//!
//! More `*` may stand in between, each for any text. A pattern with blanks, or with a colon, is put in quotes, single or
//! double; behind a key the quotes begin after the `=`, and a colon needs none. What begins with a quote has no key.
//! A process's name is what the kernel keeps, 15 bytes of it: where more is known from the executable or the command
//! line, patterns for longer names fit as well. A `-` or `+` in front of an app's name or of a pattern says in netdata
//! that a chart hides it or that it is debugged: here it is taken off and says nothing. The lines `managers:` and
//! `interpreters:` are about netdata's tree of processes, which is not ours: a process's app is its own, not its
//! parent's, and these lines say nothing either.

mod apps;
mod cache;
mod container;
mod docker;
mod folder;
mod found;
mod kubelet;
mod line;
mod oci;
mod parts;
mod pattern;
mod pod;
mod resolver;
mod rule;
mod storage;
mod unit;

pub use apps::{Apps, AppsError};
pub use parts::{Parts, parts};
pub use resolver::{FOLDERS, Names, Resolver};
pub use rule::{Asked, Process};
