//! Draws the report of a made-up run, to look at the page without training anything:
//! `cargo run -p vul2safe-report --example made_up_run -- FOLDER [--hostile]`.

#[path = "../tests/fixture/mod.rs"]
mod fixture;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args_os().nth(1).ok_or("name a folder that does not exist yet")?;
    fixture::make_run(folder.as_ref(), std::env::args().any(|argument| argument == "--hostile"));
    println!("{}", vul2safe_report::write(folder.as_ref())?.display());
    Ok(())
}
