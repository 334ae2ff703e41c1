//! The binary `drumbeat`: arguments, wiring, printing, exit codes. The only room that names the connectors.

mod args;
mod command;
mod context;
mod failure;
mod print;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use crate::args::{Cli, Command};
use crate::context::Context;
use crate::failure::Failure;

#[global_allocator]
static MEMORY: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // One provider of cryptography in the process, chosen once.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        print::say("error: a cryptography provider is installed already");
        return ExitCode::from(failure::code::FAILED);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            print::say(&format!("error: cannot start: {error}"));
            return ExitCode::from(failure::code::FAILED);
        }
    };
    match runtime.block_on(dispatch(cli)) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            print::say(&failure.to_string());
            ExitCode::from(failure.code)
        }
    }
}

/// Whether a command's answer is one object, which has no rows for CSV.
fn answers_with_an_object(command: &Command) -> bool {
    matches!(
        command,
        Command::Plan
            | Command::Run(_)
            | Command::Demo(_)
            | Command::Check(_)
            | Command::Preview(_)
            | Command::Explain(_)
            | Command::Profile(_)
            | Command::Audit(args::Audit::Verify { .. })
            | Command::Reconcile { .. }
            | Command::Version
    )
}

async fn dispatch(cli: Cli) -> Result<u8, Failure> {
    // Said before anything is done: a run is not repeated for its output.
    if cli.output == Some(args::Output::Csv) && answers_with_an_object(&cli.command) {
        return Err(Failure::new("this command prints no rows, so there is no CSV of it")
            .hint("`--output json` prints all of it")
            .with_code(failure::code::USAGE));
    }
    let context = Context::new(&cli);
    match cli.command {
        Command::Init(args) => command::init::init(&context, &args).await,
        Command::Demo(args) => command::demo::demo(&context, &args).await,
        Command::Check(args) => command::check::check(&context, &args).await,
        Command::Plan => command::run::plan(&context).await,
        Command::Run(args) => command::run::run(&context, &args).await,
        Command::Preview(args) => command::preview::preview(&context, &args).await,
        Command::SendTest(args) => command::preview::send_test(&context, &args).await,
        Command::Test(args) => command::test::test(&context, &args).await,
        Command::Explain(args) => command::explain::explain(&context, &args).await,
        Command::Segment(args) => command::segment::segment(&context, &args).await,
        Command::Sync(args) => command::sync::sync(&context, &args).await,
        Command::Record(args) => command::records::record(&context, &args).await,
        Command::Log(args) => command::log::log(&context, &args).await,
        Command::Redrive(args) => command::redrive::redrive(&context, &args).await,
        Command::InDoubt(args) => command::in_doubt::in_doubt(&context, &args).await,
        Command::Connector(args) => command::connector::connector(&context, &args).await,
        Command::Consent(args) => command::consent::consent(&context, &args).await,
        Command::Suppress(args) => command::suppress::suppress(&context, &args).await,
        Command::Audit(args) => command::audit::audit(&context, &args).await,
        Command::Halt(args) => command::halt::halt(&context, &args).await,
        Command::Playbook(args) => command::playbook::playbook(&context, &args).await,
        Command::Profile(args) => command::profile::profile(&context, &args).await,
        Command::Schema { kind } => command::schema::schema(&context, kind.as_deref()),
        Command::Doctor => command::doctor::doctor(&context).await,
        Command::Backup { to, verify: false } => command::maintain::backup(&context, &to).await,
        Command::Backup { to, verify: true } => command::maintain::verify(&context, &to).await,
        Command::Restore { from } => command::maintain::restore(&context, &from).await,
        Command::Reconcile { journal } => command::maintain::reconcile(&context, &journal).await,
        Command::Migrate => command::maintain::migrate(&context).await,
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "drumbeat", &mut script);
            context.printer.text(&String::from_utf8_lossy(&script))?;
            Ok(failure::code::DONE)
        }
        Command::Version => {
            let version = env!("CARGO_PKG_VERSION");
            let json = serde_json::json!({ "name": "drumbeat", "version": version });
            context.printer.object(&json, || format!("drumbeat {version}"))?;
            Ok(failure::code::DONE)
        }
    }
}
