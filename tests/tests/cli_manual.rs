//! `ouro manual`: every command and option that `--help` tells has its place in the man pages and in
//! the completions of each shell.

use ouro_tests::run_command;
use std::fs;
use std::path::Path;
use tempfile::tempdir;

fn ouro(args: &[&str]) -> String {
    run_command(env!("CARGO_BIN_EXE_ouro-tested"), args, &[]).text().to_owned()
}

/// The commands that `ouro --help` lists.
fn commands() -> Vec<String> {
    let help = ouro(&["--help"]);
    let list = help.split_once("Commands:\n").unwrap().1.split_once("\n\n").unwrap().0;
    let names = list.lines().map(|line| line.split_whitespace().next().unwrap().to_owned());
    names.filter(|name| name != "help").collect()
}

/// The long options that `ouro COMMAND --help` lists.
fn options(command: &str) -> Vec<String> {
    let is_option = |word: &&str| word.starts_with("--");
    let help = ouro(&[command, "--help"]);
    // A line that begins with one, or with a short one: the rest is prose.
    let lines = help.lines().filter(|line| line.starts_with("  -") || line.starts_with("      --"));
    let options = lines.map(|line| line.split([' ', ',']).find(is_option).unwrap().to_owned());
    options.collect()
}

fn read(folder: &Path, file: &str) -> String {
    fs::read_to_string(folder.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

#[test]
fn man_pages_and_completions_name_every_command_and_option() {
    let folder = tempdir().unwrap();
    let folder = folder.path();
    ouro(&["manual", folder.to_str().unwrap()]);
    let shells = [
        read(folder, "share/bash-completion/completions/ouro"),
        read(folder, "share/zsh/site-functions/_ouro"),
        // Fish writes an option without its dashes.
        read(folder, "share/fish/vendor_completions.d/ouro.fish").replace(" -l ", " --"),
    ];
    let page = |name: &str| read(folder, &format!("share/man/man1/{name}.1")).replace('\\', "");
    let overview = page("ouro");
    let version = ouro(&["--version"]);
    let commands = commands();
    assert!(commands.len() > 10 && commands.contains(&"manual".to_owned()), "{commands:?}");
    for command in &commands {
        assert!(overview.contains(&format!("ouro-{command}(1)")), "{command}: {overview}");
        assert!(shells.iter().all(|shell| shell.contains(command.as_str())), "{command}");
        let page = page(&format!("ouro-{command}"));
        let title = page.lines().find(|line| line.starts_with(".TH ")).unwrap();
        assert!(title.contains(version.trim()), "{command}: {title}");
        let options = options(command);
        assert!(options.contains(&"--help".to_owned()), "{command}: {options:?}");
        for option in options {
            assert!(page.contains(&option), "{command} {option}: {page}");
            assert!(shells.iter().all(|shell| shell.contains(&option)), "{command} {option}");
        }
    }
}
