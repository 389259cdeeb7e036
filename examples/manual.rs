//! Writes the shells' completions and the manual pages into a folder, for packages: `cargo run --example manual -- FOLDER`.

#[path = "../src/arguments.rs"]
mod arguments;

use std::path::PathBuf;
use std::{env, fs, io};

use clap::CommandFactory as _;
use clap_complete::{Shell, generate_to};

use arguments::Arguments;

fn main() -> io::Result<()> {
    let folder = env::args_os().nth(1).map(PathBuf::from);
    let folder = folder.ok_or_else(|| io::Error::other("give the folder to write to"))?;
    fs::create_dir_all(&folder)?;
    let mut command = Arguments::command();
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        generate_to(shell, &mut command, env!("CARGO_PKG_NAME"), &folder)?;
    }
    // No page for each `help` of a command.
    let command = Arguments::command().disable_help_subcommand(true);
    let command = command.mut_subcommands(|command| command.disable_help_subcommand(true));
    clap_mangen::generate_to(command, &folder)
}
