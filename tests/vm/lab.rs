//! What cases get: machines.

use std::sync::{Arc, Mutex, OnceLock};

use anyhow::{anyhow, Result};
use xtask::debug::audit;
use xtask::debug::report::Report;
use xtask::flavour::Flavour;
use xtask::setup::{self, Setup};
use xtask::vm::config::Config;
use xtask::vm::Vm;

/// Name and function of a case.
pub type Case = (&'static str, fn(&Lab) -> Result<()>);

/// Machines for cases.
#[derive(Default)]
pub struct Lab {
    setup: OnceLock<Result<Setup, String>>,
    shared: Mutex<Option<Arc<Vm>>>,
}

impl Lab {
    /// What machines are made from. Made and built when the first case asks, unless `VMLU_NO_BUILD` says that it is.
    pub fn setup(&self) -> Result<&Setup> {
        let setup = self.setup.get_or_init(|| {
            let build = std::env::var_os("VMLU_NO_BUILD").is_none();
            setup::with_kernel(Flavour::from_environment(), build)
                .map_err(|error| format!("{error:#}"))
        });
        setup.as_ref().map_err(|error| anyhow!("{error}"))
    }

    /// The machine that cases share: one board that takes injected faults, driver loaded if there is one. Leave it as you found it.
    pub fn vm(&self) -> Result<Arc<Vm>> {
        let mut shared = self
            .shared
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        // A case may have crashed it; that is that case's failure, not the next one's.
        if let Some(vm) = &*shared
            && vm.ok("true").is_ok()
        {
            return Ok(vm.clone());
        }
        *shared = None;
        let config = Config {
            boards: self.boards()?,
            server_args: vec!["--inject".into()],
            ..Config::default()
        };
        let vm = Arc::new(self.boot(&config)?);
        *shared = Some(vm.clone());
        Ok(vm)
    }

    /// A machine of its own.
    pub fn boot(&self, config: &Config) -> Result<Vm> {
        Vm::boot(self.setup()?, config)
    }

    /// Boards that this project can serve: none before there is a device server.
    fn boards(&self) -> Result<u32> {
        Ok(u32::from(
            self.setup()?.built.programs.contains_key("mlu-server"),
        ))
    }

    /// The end of the shared machine's logs, for failures.
    pub fn logs(&self) -> String {
        let shared = self
            .shared
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let Some(vm) = &*shared else {
            return String::new();
        };
        let dmesg = vm
            .ok("dmesg | tail -n 15")
            .unwrap_or_else(|_| vm.kernel_log());
        let server = vm.server().map(|server| server.log()).unwrap_or_default();
        let lines: Vec<_> = server.lines().collect();
        let last = lines[lines.len().saturating_sub(10)..].join("\n");
        format!("── the guest's kernel log ──\n{dmesg}\n── the device server's log ──\n{last}")
    }

    /// What debug kernels have reported since the last call: the shared machine's, and those of machines that have ended.
    pub fn reports(&self) -> Vec<Report> {
        let mut reports = audit::take();
        let shared = self
            .shared
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        reports.extend(shared.iter().flat_map(|vm| vm.reports()));
        reports
    }

    /// Ends the shared machine.
    pub fn close(&self) {
        *self
            .shared
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner()) = None;
    }
}
