//! The command `ouro` under a name that Cargo lets this package's tests run.

fn main() -> std::process::ExitCode {
    ouro::main()
}
