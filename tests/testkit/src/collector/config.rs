//! The collector's YAML, written from the documentation: credentials, services and outputs by name.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};

use crate::report::Report;
use crate::service::Service;

/// How an input signs in.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// Account and password.
    Basic {
        /// The account.
        username: String,
        /// Its password.
        password: String,
    },
    /// An application and its secret.
    Secret {
        /// The directory.
        tenant_id: String,
        /// The application.
        client_id: String,
        /// Its secret.
        client_secret: String,
    },
    /// An application and its certificate, file names under `certs/`.
    Certificate {
        /// The directory.
        tenant_id: String,
        /// The application.
        client_id: String,
        /// The certificate.
        client_certificate: String,
        /// Its key.
        client_key: String,
    },
}

/// One input with its services.
#[derive(Clone, Debug)]
pub struct Input {
    /// The key under `inputs`.
    pub name: String,
    /// The input's id.
    pub id: String,
    /// How it signs in.
    pub credentials: Credentials,
    /// Further keys of the input and their values as YAML, such as `base_url` and `requests_per_second`.
    pub options: Vec<(String, String)>,
    /// The services: name, then keys and their values as YAML.
    pub services: Vec<(String, Vec<(String, String)>)>,
}

fn owned(options: &[(&str, &str)]) -> Vec<(String, String)> {
    options
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

impl Input {
    /// An input that asks this service, with its application's secret, and has no services yet.
    pub fn for_service(service: &Service) -> Input {
        let access = service.options().access;
        let credentials = Credentials::Secret {
            tenant_id: access.tenant,
            client_id: access.app.client_id,
            client_secret: access.app.secret.unwrap_or_default(),
        };
        Input {
            name: "office365_reporting_message".to_owned(),
            id: "12345".to_owned(),
            credentials,
            options: owned(&[
                ("base_url", &service.base_url()),
                ("authority_url", &service.authority_url()),
            ]),
            services: Vec::new(),
        }
    }

    /// The same with a report's service and its keys, the values as YAML.
    #[must_use]
    pub fn service(mut self, report: Report, options: &[(&str, &str)]) -> Input {
        self.services
            .push((report.service().to_owned(), owned(options)));
        self
    }

    /// The same with a report's service that begins at `start` and has a window due each second, and with further keys.
    #[must_use]
    pub fn service_from(
        self,
        report: Report,
        start: DateTime<Utc>,
        options: &[(&str, &str)],
    ) -> Input {
        let start = start.format("%Y-%m-%dT%H:%M:%SZ").to_string();
        let mut keys = vec![
            ("start_time", start.as_str()),
            ("request_period_in_seconds", "1"),
        ];
        keys.extend(options);
        self.service(report, &keys)
    }

    /// The same with the services of all eight reports.
    #[must_use]
    pub fn all_services_from(self, start: DateTime<Utc>, options: &[(&str, &str)]) -> Input {
        Report::ALL.into_iter().fold(self, |input, report| {
            input.service_from(report, start, options)
        })
    }

    /// The same with a key of the input's set, the value as YAML.
    #[must_use]
    pub fn option(mut self, key: &str, value: &str) -> Input {
        self.options.retain(|(known, _)| known != key);
        self.options.push((key.to_owned(), value.to_owned()));
        self
    }

    /// The same with other credentials.
    #[must_use]
    pub fn credentials(self, credentials: Credentials) -> Input {
        Input {
            credentials,
            ..self
        }
    }

    fn write(&self, yaml: &mut Yaml) {
        yaml.open(1, &self.name);
        yaml.text(2, "id", &self.id);
        yaml.raw(2, "enabled", "true");
        for (key, value) in &self.options {
            yaml.raw(2, key, value);
        }
        yaml.open(2, "credentials");
        let fields = match &self.credentials {
            Credentials::Basic { username, password } => {
                vec![("username", username), ("password", password)]
            }
            Credentials::Secret {
                tenant_id,
                client_id,
                client_secret,
            } => {
                vec![
                    ("tenant_id", tenant_id),
                    ("client_id", client_id),
                    ("client_secret", client_secret),
                ]
            }
            Credentials::Certificate {
                tenant_id,
                client_id,
                client_certificate,
                client_key,
            } => vec![
                ("tenant_id", tenant_id),
                ("client_id", client_id),
                ("client_certificate", client_certificate),
                ("client_key", client_key),
            ],
        };
        for (key, value) in fields {
            yaml.text(3, key, value);
        }
        yaml.open(2, "services");
        for (service, options) in &self.services {
            yaml.open(3, service);
            for (key, value) in options {
                yaml.raw(4, key, value);
            }
        }
    }
}

/// One output.
#[derive(Clone, Debug)]
pub struct Output {
    /// The key under `outputs`.
    pub name: String,
    /// Its `type`.
    pub kind: String,
    /// The keys of its `config` and their values as YAML.
    pub config: Vec<(String, String)>,
}

impl Output {
    /// A relay on loopback, reached as `localhost`, with the files that [`Folder::new`](super::Folder::new) writes.
    pub fn relay(port: u16) -> Output {
        let config = owned(&[
            ("address", "localhost"),
            ("port", &port.to_string()),
            ("type", "SSL"),
            ("chain", "chain.crt"),
            ("cert", "collector.crt"),
            ("key", "collector.key"),
        ]);
        Output {
            name: "devo_1".to_owned(),
            kind: "devo_platform".to_owned(),
            config,
        }
    }

    /// A relay of plain TCP on loopback, of a type such as `syslog`.
    pub fn plain(kind: &str, port: u16) -> Output {
        Output {
            name: "plain_1".to_owned(),
            kind: kind.to_owned(),
            config: owned(&[("address", "127.0.0.1"), ("port", &port.to_string())]),
        }
    }

    /// Lines on standard output.
    pub fn console() -> Output {
        Output {
            name: "console_1".to_owned(),
            kind: "console".to_owned(),
            config: Vec::new(),
        }
    }

    /// The same under another name.
    #[must_use]
    pub fn named(self, name: &str) -> Output {
        Output {
            name: name.to_owned(),
            ..self
        }
    }

    /// The same with a key of its `config` set, the value as YAML.
    #[must_use]
    pub fn option(mut self, key: &str, value: &str) -> Output {
        self.config.retain(|(known, _)| known != key);
        self.config.push((key.to_owned(), value.to_owned()));
        self
    }

    fn write(&self, yaml: &mut Yaml) {
        yaml.open(1, &self.name);
        yaml.text(2, "type", &self.kind);
        if !self.config.is_empty() {
            yaml.open(2, "config");
            for (key, value) in &self.config {
                yaml.raw(3, key, value);
            }
        }
    }
}

/// The whole file.
#[derive(Clone, Debug)]
pub struct Config {
    /// Keys of `globals` beside id, name and persistence, the values as YAML.
    pub globals: Vec<(String, String)>,
    /// Where records go.
    pub outputs: Vec<Output>,
    /// Where they come from.
    pub inputs: Vec<Input>,
}

impl Config {
    /// One input, one output.
    pub fn new(input: Input, output: Output) -> Config {
        Config {
            // Collectors that run side by side would be after the same port.
            globals: owned(&[("debug", "true"), ("monitoring", "{listen: off}")]),
            outputs: vec![output],
            inputs: vec![input],
        }
    }

    /// The same with a key of `globals` set, the value as YAML.
    #[must_use]
    pub fn global(mut self, key: &str, value: &str) -> Config {
        self.globals.retain(|(known, _)| known != key);
        self.globals.push((key.to_owned(), value.to_owned()));
        self
    }

    /// The same with a further output.
    #[must_use]
    pub fn output(mut self, output: Output) -> Config {
        self.outputs.push(output);
        self
    }

    /// The file's text.
    pub fn yaml(&self) -> String {
        let mut yaml = Yaml::default();
        yaml.open(0, "globals");
        yaml.raw(1, "id", "12345");
        yaml.raw(1, "name", "testkit");
        yaml.open(1, "persistence");
        yaml.raw(2, "type", "filesystem");
        yaml.open(2, "config");
        yaml.raw(3, "directory_name", "state");
        for (key, value) in &self.globals {
            yaml.raw(1, key, value);
        }
        yaml.open(0, "outputs");
        for output in &self.outputs {
            output.write(&mut yaml);
        }
        yaml.open(0, "inputs");
        for input in &self.inputs {
            input.write(&mut yaml);
        }
        yaml.text
    }
}

#[derive(Default)]
struct Yaml {
    text: String,
}

impl Yaml {
    fn open(&mut self, depth: usize, key: &str) {
        self.raw(depth, key, "");
    }

    /// Writing to memory does not fail.
    fn raw(&mut self, depth: usize, key: &str, value: &str) {
        let space = if value.is_empty() { "" } else { " " };
        let _ = writeln!(
            self.text,
            "{:width$}{key}:{space}{value}",
            "",
            width = depth * 2
        );
    }

    /// A string: JSON's form of it is YAML's too.
    fn text(&mut self, depth: usize, key: &str, value: &str) {
        self.raw(depth, key, &serde_json::Value::from(value).to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_file_has_the_documented_shape() {
        let service = Service::start(crate::service::Options::default())
            .await
            .unwrap();
        let input = Input::for_service(&service)
            .option("requests_per_second", "5")
            .option("base_url", "http://127.0.0.1:1/")
            .option("authority_url", "http://127.0.0.1:2")
            .credentials(Credentials::Basic {
                username: "u@x".to_owned(),
                password: "a: \"b\"".to_owned(),
            })
            .service(Report::MailTraffic, &[])
            .service(
                Report::MessageTrace,
                &[("start_time", "2026-01-02T03:04:05")],
            );
        let yaml = Config::new(input, Output::relay(443))
            .output(Output::console())
            .yaml();
        let expected = r#"globals:
  id: 12345
  name: testkit
  persistence:
    type: filesystem
    config:
      directory_name: state
  debug: true
  monitoring: {listen: off}
outputs:
  devo_1:
    type: "devo_platform"
    config:
      address: localhost
      port: 443
      type: SSL
      chain: chain.crt
      cert: collector.crt
      key: collector.key
  console_1:
    type: "console"
inputs:
  office365_reporting_message:
    id: "12345"
    enabled: true
    requests_per_second: 5
    base_url: http://127.0.0.1:1/
    authority_url: http://127.0.0.1:2
    credentials:
      username: "u@x"
      password: "a: \"b\""
    services:
      office365_reporting_MailTraffic_service:
      office365_reporting_MessageTrace_service:
        start_time: 2026-01-02T03:04:05
"#;
        assert_eq!(yaml, expected);
    }
}
