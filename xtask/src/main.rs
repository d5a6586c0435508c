//! `cargo xtask`: build, boot, test and measure the virtual MLU.

#![forbid(unsafe_code)]

use std::process::exit;

use clap::{CommandFactory, Parser, Subcommand};
use xtask::commands as c;
use xtask::progress;

/// Build, boot, test and measure the virtual MLU.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    disable_help_subcommand = true
)]
struct Cli {
    /// No progress on standard error
    #[arg(short, long, global = true)]
    quiet: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(c::demo::Args),
    Vm(c::vm::Args),
    Test(c::test::Args),
    Bench(c::bench::Args),
    Module(c::module::Args),
    Install(c::install::Args),
    Doctor(c::doctor::Args),
    Update(c::update::Args),
    Clean(c::clean::Args),
}

fn main() {
    let cli = Cli::parse();
    progress::set_quiet(cli.quiet);
    let result = match cli.command {
        None => {
            list();
            Ok(0)
        }
        Some(Command::Demo(args)) => c::demo::run(args),
        Some(Command::Vm(args)) => c::vm::run(args),
        Some(Command::Test(args)) => c::test::run(args),
        Some(Command::Bench(args)) => c::bench::run(args),
        Some(Command::Module(args)) => c::module::run(args),
        Some(Command::Install(args)) => c::install::run(args),
        Some(Command::Doctor(args)) => c::doctor::run(args),
        Some(Command::Update(args)) => c::update::run(args),
        Some(Command::Clean(args)) => c::clean::run(args),
    };
    match result {
        Ok(code) => exit(code),
        Err(error) => {
            eprintln!("error: {error:#}");
            exit(1);
        }
    }
}

/// The commands, one line each.
fn list() {
    println!("Commands of `cargo xtask` (more with --help after each):");
    for command in Cli::command().get_subcommands() {
        println!(
            "  {:<8} {}",
            command.get_name(),
            command.get_about().unwrap_or_default()
        );
    }
}
