//! Where Debian packages come from: what the machine's own apt is set up for, so that no host is named here.

use std::env;
use std::fs;
use std::process::Command;

use anyhow::Result;

use crate::problem::problem;
use crate::run;

/// Overrides what apt says.
const OVERRIDE: &str = "VMLU_DEBIAN_MIRROR";

/// URI of the Debian archive.
pub fn find() -> Result<String> {
    if let Ok(mirror) = env::var(OVERRIDE) {
        return Ok(mirror);
    }
    let asked = "find a Debian mirror";
    let next = format!(
        "set {OVERRIDE} to the URI of a Debian archive (what follows `deb` in sources.list)"
    );
    let format = "$(CREATED_BY)|$(ORIGIN)|$(LABEL)|$(RELEASE)|$(COMPONENT)|$(REPO_URI)";
    let mut command = Command::new("apt-get");
    command.args(["indextargets", "--format", format]);
    let targets =
        run::output(command).map_err(|error| problem(asked, format!("{error}"), &next))?;
    let uri = choose(&targets).ok_or_else(|| {
        problem(asked, "apt's sources name no main Debian archive (security and third-party ones do not count)", &next)
    })?;
    Ok(resolve(&uri))
}

/// Picks the archive from the lines of `apt-get indextargets`.
fn choose(targets: &str) -> Option<String> {
    let rows: Vec<Vec<&str>> = targets
        .lines()
        .map(|line| line.split('|').collect())
        .collect();
    let rows = rows
        .iter()
        .filter(|row| row.len() == 6 && row[0] == "Packages" && row[4] == "main");
    let rows: Vec<_> = rows.filter(|row| !row[5].starts_with("cdrom:")).collect();
    let main_suite = |row: &[&str]| !row[3].contains('-') && !row[3].contains('/');
    // Origin and label are known once apt has fetched the lists; before that, the usual path has to do.
    let by_origin = rows
        .iter()
        .find(|row| row[1] == "Debian" && row[2] == "Debian" && main_suite(row));
    let by_path = || {
        rows.iter()
            .find(|row| row[5].trim_end_matches('/').ends_with("/debian") && main_suite(row))
    };
    by_origin
        .or_else(by_path)
        .map(|row| row[5].trim_end_matches('/').to_owned())
}

/// `mirror+file:/path` names a list of mirrors, which the toolbox does not have: the first of them.
fn resolve(uri: &str) -> String {
    let list = uri
        .strip_prefix("mirror+file:")
        .and_then(|path| fs::read_to_string(path).ok());
    let first = list.as_deref().and_then(first_mirror);
    first.unwrap_or(uri).trim_end_matches('/').to_owned()
}

fn first_mirror(list: &str) -> Option<&str> {
    list.lines()
        .filter_map(|line| line.split_whitespace().next())
        .find(|word| word.contains("://"))
}

/// Settings of the machine's apt that reaching the mirror may need, as lines of an apt.conf.
pub fn apt_options() -> Vec<String> {
    let mut command = Command::new("apt-config");
    command.arg("dump");
    let dump = run::output(command).unwrap_or_default();
    let kept = |line: &&str| {
        let name = line.split_whitespace().next().unwrap_or_default();
        name.starts_with("Acquire::")
            && ["::Proxy", "::Check-Valid-Until", "::Check-Date"]
                .iter()
                .any(|part| name.contains(part))
    };
    dump.lines()
        .filter(kept)
        .map(|line| line.trim_end_matches(';').to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn third_party_and_security_archives_are_passed_over() {
        let targets = "Packages|Google|x|cloud|main|http://a.example/apt/\n\
            Packages|Debian|Debian-Security|bookworm-security|main|http://m.example/debian-security/\n\
            DEP-11|Debian|Debian|bookworm|main|http://no.example/debian/\n\
            Packages|Debian|Debian|bookworm-updates|main|http://u.example/debian/\n\
            Packages|Debian|Debian|bookworm|main|http://m.example/debian/\n";
        assert_eq!(choose(targets).as_deref(), Some("http://m.example/debian"));
    }

    #[test]
    fn before_the_first_update_the_path_decides() {
        let targets = "Packages|||nodistro|main|http://node.example/node/\n\
            Packages|||trixie-security|main|http://m.example/debian-security/\n\
            Packages|||trixie|main|http://m.example/debian/\n";
        assert_eq!(choose(targets).as_deref(), Some("http://m.example/debian"));
        assert_eq!(
            choose("Packages|Ubuntu|Ubuntu|noble|main|http://u.example/ubuntu/\n"),
            None
        );
    }

    #[test]
    fn mirror_lists_are_read() {
        assert_eq!(
            first_mirror("# list\n\nhttp://m.example/debian/ priority:1\n"),
            Some("http://m.example/debian/")
        );
    }
}
