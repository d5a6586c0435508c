//! Users have no more of a chip than their quotas, and leave the rest to others.

use std::fs::{set_permissions, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::process::{geteuid, Uid};
use rustix::thread::set_thread_res_uid;
use vmlu::transport::local::Local;
use vmlu::{Context, Result, Status};
use vmlu_device::local::{LocalServer, Options, Quota};

use crate::{server, Check};

const QUOTA: Quota = Quota {
    queues: 3,
    memory: 4 << 20,
    pinned: 3 << 19,
};

/// Does something in a thread that is another user's, as the server sees who connects; as this process's user if it may not change that.
fn as_user(user: u32, path: &Path, work: fn(&Path) -> Check) -> Check {
    let ended = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            if geteuid().is_root() {
                set_thread_res_uid(None, Uid::from_raw(user), None).map_err(|e| e.to_string())?;
            }
            work(path).map_err(|e| e.to_string())
        });
        thread.join()
    });
    match ended {
        Ok(ended) => Ok(ended?),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn open(path: &Path) -> Result<Context> {
    Context::open_on(&*Local::open(path)?, 0)
}

fn full<T>(result: Result<T>, what: &str) {
    let Err(error) = result else {
        panic!("more {what} than the quota");
    };
    assert_eq!(error.status(), Status::OutOfResources, "{error}");
    let text = error.to_string();
    assert!(text.contains("may have") && text.contains(what), "{text}");
}

/// All that a user may have, in two contexts together.
fn all_of_it(path: &Path) -> Check {
    let (one, two) = (open(path)?, open(path)?);
    let mut queues = vec![one.queue()?, one.queue()?, two.queue()?];
    full(one.queue(), "queues");
    full(two.queue(), "queues");
    drop(queues.pop());
    queues.push(one.queue()?);
    full(two.queue(), "queues");

    let large = one.alloc(3 << 20)?;
    full(two.alloc((1 << 20) + 1), "device memory");
    let _small = two.alloc(1 << 20)?;
    full(one.alloc(1), "device memory");
    drop(large);
    let _large = two.alloc(3 << 20)?;

    let pinned = one.alloc_pinned(1 << 20)?;
    full(two.alloc_pinned(1 << 20), "pinned memory");
    let _small = two.alloc_pinned(1 << 19)?;
    drop(pinned);
    let _large = two.alloc_pinned(1 << 20)?;
    Ok(())
}

pub fn quotas() -> Check {
    let folder = tempfile::tempdir()?;
    set_permissions(folder.path(), Permissions::from_mode(0o755))?;
    let options = Options {
        mode: 0o666,
        quota: QUOTA,
        ..server::options(&folder.path().join("mlu"), 1)
    };
    let server = LocalServer::start(&options)?;
    let path = server.path();
    // What a user had is his again once his contexts have ended.
    as_user(65534, path, all_of_it)?;
    as_user(65534, path, all_of_it)?;
    if geteuid().is_root() {
        let context = open(path)?;
        let of_root: Vec<_> = (0..8).map(|_| context.queue()).collect::<Result<_>>()?;
        let _memory = (context.alloc(16 << 20)?, context.alloc_pinned(4 << 20)?);
        // It is no other user's loss.
        as_user(65533, path, all_of_it)?;
        assert_eq!(of_root.len(), 8);
    }
    Ok(())
}
