//! The two kernels that machines can run.

use std::env;
use std::path::PathBuf;

use crate::paths;

/// Names the flavour for test programs; `debug` or nothing.
pub const VARIABLE: &str = "VMLU_KERNEL";

/// Which kernel machines run. Each has a module and a folder for the guest of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Flavour {
    /// Debian's, as it is.
    #[default]
    Stock,
    /// Built from the same source with checkers that report errors as they happen: [`crate::debug`].
    Debug,
}

impl Flavour {
    /// What [`VARIABLE`] says.
    pub fn from_environment() -> Flavour {
        match env::var(VARIABLE).as_deref() {
            Ok("debug") => Flavour::Debug,
            _ => Flavour::Stock,
        }
    }

    /// How many times longer than on the stock kernel everything in the guest may take: every time limit is multiplied by it.
    pub fn slowness(self) -> u32 {
        match self {
            Flavour::Stock => 1,
            Flavour::Debug => 8,
        }
    }

    /// What make is told besides the target: modules must be built by the compiler of their kernel.
    pub fn make_arguments(self) -> &'static str {
        match self {
            Flavour::Stock => "",
            Flavour::Debug => "LLVM=1",
        }
    }

    /// What the kernel is told besides what each machine's is.
    pub fn kernel_arguments(self) -> Vec<String> {
        match self {
            Flavour::Stock => Vec::new(),
            // KASAN falls silent after its first report without the first. The second checks free lists, and leaves out the allocator's
            // stocks of objects, whose stale pointers would hide leaks from kmemleak. With five levels of page tables KASAN takes an
            // interrupt that comes while the processor is identified for a wild access.
            Flavour::Debug => vec![
                "kasan_multi_shot".into(),
                "slab_debug=F".into(),
                "no5lvl".into(),
                "kunit.enable=1".into(),
                "kunit.autorun=1".into(),
                format!("vmlu.slow={}", self.slowness()),
            ],
        }
    }

    /// What goes to the guest (`/mlu` there).
    pub fn stage(self) -> PathBuf {
        self.named("guest")
    }

    /// Where the module is built.
    pub fn module_folder(self) -> PathBuf {
        self.named("module")
    }

    fn named(self, folder: &str) -> PathBuf {
        match self {
            Flavour::Stock => paths::target().join(folder),
            Flavour::Debug => paths::target().join(format!("{folder}-debug")),
        }
    }
}
