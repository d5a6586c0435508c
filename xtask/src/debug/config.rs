//! The configuration: what is asked for, and whether a build has it.
//!
//! Kconfig drops silently what does not go together (with gcc, Rust or KASAN), so that the final `.config` is checked.

/// What is asked for, in the form of a `.config`. All else is off.
pub const WANTED: &str = include_str!("kernel.config");

/// The lines of `wanted` that `config` does not have; `# CONFIG_X is not set` is had too if X is not mentioned.
pub fn missing<'a>(wanted: &'a str, config: &str) -> Vec<&'a str> {
    wanted
        .lines()
        .map(str::trim_end)
        .filter(|line| match (option(line), is_off(line)) {
            (None, _) => false,
            (Some(_), false) => !config.lines().any(|has| has.trim_end() == *line),
            (Some(name), true) => config
                .lines()
                .any(|has| option(has) == Some(name) && !is_off(has)),
        })
        .collect()
}

/// The option that a line is about.
fn option(line: &str) -> Option<&str> {
    if let Some(rest) = line.strip_prefix("# CONFIG_") {
        return rest.strip_suffix(" is not set");
    }
    Some(line.strip_prefix("CONFIG_")?.split_once('=')?.0)
}

fn is_off(line: &str) -> bool {
    line.starts_with('#')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_dropped_is_named() {
        let wanted =
            "# A comment\nCONFIG_KASAN=y\nCONFIG_RUST=y\nCONFIG_NAME=\"-x\"\n# CONFIG_SLUB_TINY is not set\n";
        let all = "#\nCONFIG_RUST=y\nCONFIG_KASAN=y\nCONFIG_NAME=\"-x\"\n";
        assert!(missing(wanted, all).is_empty());
        // Off in the words of Kconfig, or absent.
        let off = all.replace("CONFIG_KASAN=y", "# CONFIG_KASAN is not set");
        assert_eq!(missing(wanted, &off), ["CONFIG_KASAN=y"]);
        let absent = all.replace("CONFIG_RUST=y\n", "");
        assert_eq!(missing(wanted, &absent), ["CONFIG_RUST=y"]);
        // As a module it is not what was asked for; a longer name is another option.
        let other = all.replace(
            "CONFIG_KASAN=y",
            "CONFIG_KASAN=m\nCONFIG_KASAN_GENERIC=y\nCONFIG_SLUB_TINY=y",
        );
        assert_eq!(
            missing(wanted, &other),
            ["CONFIG_KASAN=y", "# CONFIG_SLUB_TINY is not set"]
        );
    }

    /// Each checker that the tests rely on is asked for, so that the build asserts it.
    #[test]
    fn every_checker_is_asked_for() {
        let checkers = [
            "RUST",
            "KASAN",
            "KASAN_GENERIC",
            "KASAN_VMALLOC",
            "PROVE_LOCKING",
            "DEBUG_KMEMLEAK",
            "DMA_API_DEBUG",
            "DEBUG_ATOMIC_SLEEP",
            "FAULT_INJECTION",
            "FAULT_INJECTION_DEBUG_FS",
            "FAULT_INJECTION_USERCOPY",
            "FAILSLAB",
            "FAIL_PAGE_ALLOC",
            "KUNIT",
        ];
        for name in checkers {
            let line = format!("CONFIG_{name}=y");
            assert!(WANTED.lines().any(|wanted| wanted == line), "{line}");
        }
        assert!(WANTED.contains("# CONFIG_SLUB_TINY is not set"));
    }
}
