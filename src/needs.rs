//! How many files and sockets a configuration needs: pure.
#![deny(clippy::disallowed_methods)]

use crate::config::Config;

/// What the process has open whatever it collects: the runtime, the listener, the log, the locks, and what threads read and write.
const BASE: u64 = 32;

/// The connections to the monitoring.
const MONITORING: u64 = 16;

/// What a configuration has open at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    inputs: u64,
    services: u64,
    /// The services and early passes, each of which has a request of its own.
    requests: u64,
    /// The outputs of these, each of which has a connection and a file of its own.
    deliveries: u64,
    /// Requests beyond those.
    further: u64,
}

impl Needs {
    /// Those of a configuration.
    pub fn of(config: &Config) -> Self {
        let mut needs = Needs {
            further: u64::from(config.globals.concurrent_requests),
            ..Needs::default()
        };
        for input in &config.inputs {
            needs.inputs += 1;
            for service in &input.services {
                let passes = 1 + service.early_passes.len() as u64;
                needs.services += 1;
                needs.requests += passes;
                needs.deliveries += passes * input.outputs.len() as u64;
            }
        }
        needs
    }

    /// Without so many not all of it can work at the same time, however slowly: a sign-in for each input, a request for each service, and a
    /// connection and a journal for each of its outputs.
    pub fn least(self) -> u64 {
        BASE + self.inputs + self.requests + 2 * self.deliveries
    }

    /// With so many nothing ever waits: also further requests, the connection that is opened while the last delivery is confirmed, and whoever
    /// looks at the monitoring.
    pub fn most(self) -> u64 {
        self.least() + self.further + self.deliveries + MONITORING
    }

    /// Why a system that allows so many cannot run it, and what to do; `None` if it can.
    pub fn refusal(self, allowed: u64) -> Option<String> {
        let (least, most) = (self.least(), self.most());
        let Needs {
            inputs, services, ..
        } = self;
        (allowed < least).then(|| {
            format!(
                "this configuration needs at least {least} files and sockets open at once (inputs {inputs}, services {services}), and the system allows \
                 {allowed}: set the limit to {most} or more (`ulimit -Hn`, systemd's `LimitNOFILE`, `--ulimit nofile={most}` of docker and podman), or give \
                 some of the inputs to another collector; nothing was started"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn needs(inputs: usize) -> Needs {
        let input = |nth| {
            format!(
                "  t{nth}: {{id: {nth}, credentials: {{tenant_id: t.example, client_id: c, client_secret: secret}}, services: \
                 {{office365_reporting_MessageTrace_service: {{early_passes_in_seconds: [300]}}, office365_reporting_Dlp_service: }}}}\n"
            )
        };
        let inputs: String = (0..inputs).map(input).collect();
        let output = "{type: syslog, config: {address: 127.0.0.1, port: 514}}";
        let text = format!(
            "globals: {{id: 1, name: c}}\noutputs:\n  a: {output}\n  b: {output}\ninputs:\n{inputs}"
        );
        let now = chrono::DateTime::UNIX_EPOCH;
        let loaded = crate::config::read(Path::new("config.yaml"), &text, now);
        Needs::of(
            &loaded
                .unwrap_or_else(|mistakes| panic!("{mistakes}"))
                .config,
        )
    }

    #[test]
    fn each_service_pass_and_output_counts() {
        let needs = needs(100);
        assert_eq!(
            (needs.services, needs.requests, needs.deliveries),
            (200, 300, 600)
        );
        assert_eq!(needs.least(), 32 + 100 + 300 + 1_200);
        assert_eq!(needs.most(), needs.least() + 64 + 600 + 16);
    }

    #[test]
    fn what_fits_is_not_refused_and_what_does_not_is_told_in_figures() {
        let needs = needs(100);
        assert_eq!(needs.refusal(needs.least()), None);
        let told = needs.refusal(1_024).unwrap();
        for part in [
            "at least 1632 files",
            "inputs 100, services 200",
            "allows 1024",
            "nofile=2312",
        ] {
            assert!(told.contains(part), "no {part:?} in {told}");
        }
    }
}
