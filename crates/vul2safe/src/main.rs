//! The `vul2safe` command: arguments in, exit code out. 0 is success, 1 the user's turn, 2 ours.

use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use clap::Parser;
use vul2safe::cli::Cli;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = u8::from(error.use_stderr());
            // Nothing is left to tell if even the message cannot be written.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match vul2safe::commands::dispatch(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let red = Style::new().bold().fg_color(Some(AnsiColor::Red.into()));
            let cyan = Style::new().bold().fg_color(Some(AnsiColor::Cyan.into()));
            anstream::eprintln!("{red}error{red:#}: {}", failure.message);
            for hint in failure.hint.iter().flat_map(|hint| hint.lines()).filter(|line| !line.is_empty()) {
                anstream::eprintln!("{cyan}hint{cyan:#}: {hint}");
            }
            ExitCode::from(failure.exit_code())
        }
    }
}
