//! The reporting service and Graph as a program: a backlog of all eight reports, then live rows, for a collector to be pointed at.
#![expect(
    clippy::print_stdout,
    reason = "what was asked for is this program's output"
)]

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use chrono::{TimeDelta, Utc};
use clap::Parser;
use testkit::report::Report;
use testkit::service::{
    Access, App, Endpoint, Fault, Options, Request, RetryAfter, Service, Spelling, Target, When,
};
use testkit::traffic::Traffic;
use tokio::signal::unix::{SignalKind, signal};

/// Simulates Microsoft's reporting service, with rows of all eight reports.
#[derive(Parser)]
struct Arguments {
    /// Address and port to listen on.
    #[arg(long, env = "SIMULATOR_LISTEN", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Days of backlog.
    #[arg(long, env = "SIMULATOR_DAYS", default_value_t = 3)]
    days: u32,
    /// Rows of message trace in the backlog.
    #[arg(long, env = "SIMULATOR_ROWS", default_value_t = 20_000)]
    rows: u32,
    /// Live rows of message trace a second.
    #[arg(long, env = "SIMULATOR_LIVE", default_value_t = 5)]
    live: u32,
    /// The directory that tokens are issued for.
    #[arg(long, env = "SIMULATOR_TENANT", default_value = "demo-tenant")]
    tenant: String,
    /// The application that gets tokens.
    #[arg(long, env = "SIMULATOR_CLIENT_ID", default_value = "demo-client")]
    client_id: String,
    /// Its secret.
    #[arg(long, env = "SIMULATOR_CLIENT_SECRET", default_value = "demo-secret")]
    client_secret: String,
    /// Milliseconds before each answer for a report.
    #[arg(long, env = "SIMULATOR_LATENCY", default_value_t = 0)]
    latency: u64,
    /// Rows a page.
    #[arg(long, env = "SIMULATOR_PAGE_ROWS", default_value_t = 2_000)]
    page_rows: usize,
    /// Fail every so many-th request for a report: by turns busy, a sign-in page, a body cut short, an unknown error and a pause of a second.
    #[arg(long, env = "SIMULATOR_FAIL_EVERY")]
    fail_every: Option<u32>,
    /// Spell every other page in another way.
    #[arg(long, env = "SIMULATOR_RESPELL")]
    respell: bool,
    /// Hours that the clock is ahead of the machine's, the directory's with it.
    #[arg(
        long,
        env = "SIMULATOR_CLOCK",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    clock_hours: i32,
    /// Hours that the directory's clock is ahead of the service's.
    #[arg(
        long,
        env = "SIMULATOR_DIRECTORY_CLOCK",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    directory_clock_hours: i32,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let traffic = Traffic {
        days: arguments.days,
        backlog_rows: arguments.rows,
        live_rows_per_second: arguments.live,
    };
    let app = App {
        client_id: arguments.client_id,
        secret: Some(arguments.client_secret),
        certificate: None,
    };
    let access = Access {
        tenant: arguments.tenant,
        app,
        ..Access::default()
    };
    let service = Service::start(Options {
        bind: arguments.listen,
        access,
        latency: Duration::from_millis(arguments.latency),
        page_rows: arguments.page_rows,
        clock_offset: TimeDelta::hours(arguments.clock_hours.into()),
        directory_clock_offset: TimeDelta::hours(arguments.directory_clock_hours.into()),
        ..Options::default()
    })
    .await?;
    if let Some(nth) = arguments.fail_every {
        service.fault(Target::Reports, When::Every(nth), failures());
    }
    if arguments.respell {
        let spellings = Spelling::ALL.map(Fault::Respelled).to_vec();
        service.fault(Target::Reports, When::Every(2), Fault::Cycle(spellings));
    }
    let now = Utc::now();
    traffic.add_backlog(&service, now);
    println!(
        "listening on {}, reports at {}, Graph at {}",
        service.address(),
        service.base_url(),
        service.graph_url()
    );
    let mut stop = signal(SignalKind::terminate())?;
    tokio::select! {
        () = traffic.run(&service, now) => {}
        () = report(&service) => {}
        _ = stop.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    Ok(())
}

/// The failures that pass by themselves, by turns.
fn failures() -> Fault {
    let second = RetryAfter::Seconds(1);
    Fault::Cycle(vec![
        Fault::Busy(None),
        Fault::SignInPage,
        Fault::CutBody,
        Fault::ServerError,
        Fault::Throttled(Some(second)),
    ])
}

/// Says every ten seconds what was asked for.
async fn report(service: &Service) {
    loop {
        tokio::time::sleep(Duration::from_secs(10)).await;
        let requests = service.requests();
        for report in Report::ALL {
            let own = |request: &&Request| request.report == Some(report);
            say(report.path(), requests.iter().filter(own));
        }
        let own = |request: &&Request| request.endpoint == Endpoint::Graph;
        say("Graph", requests.iter().filter(own));
    }
}

/// Says how many requests there were, and how many rows they brought.
fn say<'a>(name: &str, requests: impl Iterator<Item = &'a Request>) {
    let (count, rows) = requests.fold((0, 0), |(count, rows), request| {
        (count + 1, rows + request.rows)
    });
    println!("{name:<20} {count:>7} requests {rows:>9} rows");
}
