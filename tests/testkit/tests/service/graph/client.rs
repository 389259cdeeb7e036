//! A plain client of simulated Graph.

use chrono::{DateTime, Utc};
use serde_json::Value;
use testkit::service::{Access, GraphOptions, Options, Service};
use url::Url;

use crate::client::{Answer, get, post};

/// Where message trace lies.
const PATH: &str = "v1.0/admin/exchange/tracing/messageTraces";

pub(crate) struct Graph {
    pub(crate) service: Service,
    pub(crate) token: String,
    /// Further header lines.
    pub(crate) more: String,
}

impl Graph {
    /// A service with these options, and a token for Graph.
    pub(crate) async fn new(graph: GraphOptions) -> Graph {
        Graph::with(Options {
            graph,
            ..Options::default()
        })
        .await
    }

    pub(crate) async fn with(options: Options) -> Graph {
        let service = Service::start(options).await.unwrap();
        let token = token(&service, &service.graph_url()).await;
        Graph {
            service,
            token,
            more: String::new(),
        }
    }

    /// The address with a query, which is encoded here.
    pub(crate) fn url(&self, parameters: &[(&str, &str)]) -> Url {
        let mut url = Url::parse(&format!("{}/{PATH}", self.service.graph_url())).unwrap();
        if !parameters.is_empty() {
            url.query_pairs_mut().extend_pairs(parameters);
        }
        url
    }

    pub(crate) async fn get(&self, url: &Url) -> std::io::Result<Answer> {
        let authorization = format!("Authorization: Bearer {}\r\n", self.token);
        get(url, &format!("{authorization}{}", self.more)).await
    }

    /// The answer to a query.
    pub(crate) async fn ask(&self, parameters: &[(&str, &str)]) -> Answer {
        self.get(&self.url(parameters)).await.unwrap()
    }

    /// The rows of a range on one page of 5000, where they meet further conditions.
    pub(crate) async fn rows(
        &self,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
        more: &str,
    ) -> Vec<Value> {
        let filter = format!("{}{more}", range(from, to));
        let answer = self.ask(&[("$filter", &filter), ("$top", "5000")]).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["value"].as_array().unwrap().clone()
    }

    /// All pages of a range: their rows.
    pub(crate) async fn walk(
        &self,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
        top: usize,
    ) -> Vec<Vec<Value>> {
        let (filter, top) = (range(from, to), top.to_string());
        let mut url = self.url(&[("$filter", &filter), ("$top", &top)]);
        let mut pages = Vec::new();
        loop {
            let answer = self.get(&url).await.unwrap();
            assert_eq!(answer.status, 200, "{}", answer.text());
            let page = answer.json();
            pages.push(page["value"].as_array().unwrap().clone());
            match page["@odata.nextLink"].as_str() {
                Some(link) => url = Url::parse(link).unwrap(),
                None => return pages,
            }
        }
    }
}

/// A token for a resource.
pub(crate) async fn token(service: &Service, resource: &str) -> String {
    let Access { tenant, app, .. } = service.options().access;
    let url = format!("{}/{tenant}/oauth2/v2.0/token", service.authority_url());
    let form = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("grant_type", "client_credentials")
        .append_pair("scope", &format!("{resource}/.default"))
        .append_pair("client_id", &app.client_id)
        .append_pair("client_secret", &app.secret.unwrap())
        .finish();
    let answer = post(&Url::parse(&url).unwrap(), &form).await.json();
    answer["access_token"].as_str().unwrap().to_owned()
}

/// The documented filter by a range, with up to 7 decimals.
pub(crate) fn range(from: DateTime<Utc>, to: DateTime<Utc>) -> String {
    let time = |time: DateTime<Utc>| {
        let whole = time.format("%Y-%m-%dT%H:%M:%S");
        match time.timestamp_subsec_nanos() / 100 {
            0 => format!("{whole}Z"),
            ticks => format!("{whole}.{ticks:07}Z"),
        }
    };
    format!(
        "receivedDateTime ge {} and receivedDateTime le {}",
        time(from),
        time(to)
    )
}

/// A member of each row, as text.
pub(crate) fn texts<'a>(rows: &'a [Value], name: &str) -> Vec<&'a str> {
    rows.iter()
        .map(|row| row[name].as_str().unwrap_or("no text"))
        .collect()
}

/// What is wrong, in Graph's words.
pub(crate) fn message(answer: &Answer) -> String {
    answer.json()["error"]["message"]
        .as_str()
        .unwrap()
        .to_owned()
}
