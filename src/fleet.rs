//! The inputs that run: each with its services, which are started, stopped and started again without the others noticing.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::bail;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::config::{Input, Output};
use crate::prepared::Prepared;
use crate::spread::Spread;
use crate::tenant::{Around, Begins, Ends, Lived, Opening, Running, Tenant};

/// The inputs that run.
pub(crate) struct Fleet {
    around: Around,
    ends: Ends,
    stop: CancellationToken,
    live: Vec<Live>,
    services: JoinSet<Ended>,
    started: usize,
    opening: TaskTracker,
    refused: Arc<AtomicUsize>,
    not_opened: usize,
    /// Of what was due, so many services have left something.
    behind: usize,
}

/// An input that runs.
struct Live {
    input: Arc<Input>,
    tenant: Arc<Tenant>,
    stop: CancellationToken,
    services: TaskTracker,
}

/// A service that has ended.
struct Ended {
    lived: Lived,
    /// It was told to.
    told: bool,
}

/// The names of the inputs that a reload has touched.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) added: Vec<String>,
    pub(crate) changed: Vec<String>,
    pub(crate) removed: Vec<String>,
}

impl Difference {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Fleet {
    /// One without inputs. `left_out` of what was due cannot run at all.
    pub(crate) fn new(
        around: Around,
        ends: Ends,
        stop: CancellationToken,
        left_out: usize,
    ) -> Self {
        Fleet {
            around,
            ends,
            stop,
            live: vec![],
            services: JoinSet::new(),
            started: 0,
            opening: TaskTracker::new(),
            refused: Arc::default(),
            not_opened: 0,
            behind: left_out,
        }
    }

    /// Starts all inputs, which the monitor knows, each in its place among the others.
    pub(crate) fn start_all(&mut self, inputs: &[Arc<Input>], tenants: Vec<Arc<Tenant>>) {
        for (input, tenant) in inputs.iter().zip(tenants) {
            let begins = Begins {
                spread: Spread::of(&input.name, inputs.len()),
                with_others: true,
            };
            self.start(Arc::clone(input), tenant, begins);
        }
    }

    /// Starts the services of an input, which the monitor knows. A run that ends by itself puts nothing off.
    pub(crate) fn start(&mut self, input: Arc<Input>, tenant: Arc<Tenant>, begins: Begins) {
        tenant.keep_budget_in(&self.around.requests);
        let stop = self.stop.child_token();
        let services = TaskTracker::new();
        let monitors = self.around.monitor.services_of(&input.name);
        let begins = match self.ends {
            Ends::AtTheStop => begins,
            Ends::WhenDone { .. } => Begins {
                spread: Spread::default(),
                with_others: false,
            },
        };
        for (nth, (service, monitor)) in input.services.iter().zip(monitors).enumerate() {
            let name = service.report.service;
            let running = Arc::new(Running {
                around: self.around.clone(),
                input: Arc::clone(&input),
                nth,
                tenant: Arc::clone(&tenant),
                monitor,
                begins,
                // Its own, since one that is given up stops alone.
                stop: stop.child_token(),
            });
            let span = tracing::info_span!("service", input = input.name, name);
            let (ends, told) = (self.ends, stop.clone());
            let opening = Opening::new(&self.refused, self.opening.token());
            let life = async move {
                let lived = running.live(ends, opening).await;
                let told = told.is_cancelled();
                Ended { lived, told }
            };
            self.services
                .spawn(services.track_future(life.instrument(span)));
            self.started += 1;
        }
        services.close();
        self.live.push(Live {
            input,
            tenant,
            stop,
            services,
        });
    }

    /// The inputs that run, and their ways to Microsoft.
    pub(crate) fn running(&self) -> Vec<(Arc<Input>, Arc<Tenant>)> {
        let running = |live: &Live| (Arc::clone(&live.input), Arc::clone(&live.tenant));
        self.live.iter().map(running).collect()
    }

    /// Whether no service has been started.
    pub(crate) fn is_empty(&self) -> bool {
        self.started == 0
    }

    /// Resolves when the state of each service that has been started so far is open or cannot be used: how many run.
    pub(crate) fn opening(&self) -> impl Future<Output = usize> + use<> {
        let (opening, refused) = (self.opening.clone(), Arc::clone(&self.refused));
        let started = self.started;
        async move {
            opening.close();
            opening.wait().await;
            started - refused.load(Ordering::SeqCst)
        }
    }

    /// Resolves when all services have ended, as they do by themselves only where the run does: how many have left something that was due.
    /// Cancel safe.
    ///
    /// # Errors
    ///
    /// If a service has ended uninvited, or none can run.
    pub(crate) async fn end(&mut self) -> anyhow::Result<usize> {
        while let Some(ended) = self.services.join_next().await {
            match ended {
                Ok(Ended { told: true, .. }) if self.ends == Ends::AtTheStop => {}
                Ok(Ended {
                    lived: Lived::NotOpened,
                    ..
                }) => {
                    self.behind += 1;
                    self.not_opened += 1;
                }
                Ok(Ended {
                    lived: Lived::ToTheEnd { done },
                    ..
                }) if self.ends != Ends::AtTheStop => self.behind += usize::from(!done),
                Ok(_) => bail!("a service has ended uninvited"),
                Err(error) if self.ends == Ends::AtTheStop => {
                    bail!("a service has ended uninvited: {error:?}")
                }
                Err(_) => self.behind += 1,
            }
            if self.not_opened == self.started {
                bail!("no service can run; the log says why");
            }
        }
        if self.ends == Ends::AtTheStop {
            // There is none now: inputs may come.
            std::future::pending::<()>().await;
        }
        Ok(self.behind)
    }

    /// Runs what is `prepared` and nothing else. What is new is started at once; what has changed or is gone is stopped in order, with its last
    /// receipts; what has not changed does not notice. If it is not awaited to its end, nothing but the stop may follow.
    pub(crate) async fn apply(&mut self, prepared: Prepared) -> Difference {
        let Prepared {
            config, tenants, ..
        } = prepared;
        let inputs = config.inputs.len();
        // What a reload starts is not many at once, and somebody waits for it.
        let begins = |input: &Input| Begins {
            spread: Spread::of(&input.name, inputs),
            with_others: false,
        };
        let outputs = config.all_outputs();
        let mut difference = Difference::default();
        let (mut stays, mut leaves) = (vec![], vec![]);
        for live in self.live.drain(..) {
            let mut wanted = config.inputs.iter();
            if wanted.any(|input| live.input.runs_as(input)) {
                stays.push(live);
            } else {
                live.stop.cancel();
                leaves.push(live);
            }
        }
        self.live = stays;
        let names = |of: &[Live]| -> HashSet<String> {
            of.iter().map(|live| live.input.name.clone()).collect()
        };
        let (staying, leaving) = (names(&self.live), names(&leaves));
        let (mut new, mut changed) = (vec![], vec![]);
        for (input, tenant) in config.inputs.iter().zip(tenants) {
            if leaving.contains(&input.name) {
                difference.changed.push(input.name.clone());
                changed.push((Arc::clone(input), tenant));
            } else if !staying.contains(&input.name) {
                difference.added.push(input.name.clone());
                new.push((Arc::clone(input), tenant));
            }
        }
        let gone = leaving
            .iter()
            .filter(|name| !difference.changed.contains(name));
        difference.removed = gone.cloned().collect();
        difference.removed.sort();
        self.tell(&leaves, &new, &outputs);
        for (input, tenant) in new {
            let begins = begins(&input);
            self.start(input, tenant, begins);
        }
        for live in &leaves {
            live.services.wait().await;
        }
        self.tell(&[], &changed, &outputs);
        for (input, tenant) in changed {
            let begins = begins(&input);
            self.start(input, tenant, begins);
        }
        difference
    }

    /// Has the monitor know the inputs that run, those that still do, and those that are about to.
    fn tell(&self, leaves: &[Live], comes: &[(Arc<Input>, Arc<Tenant>)], outputs: &[&Output]) {
        let known = self.live.iter().chain(leaves);
        let known = known.map(|live| (&live.input, &live.tenant));
        let comes = comes.iter().map(|(input, tenant)| (input, tenant));
        let all: Vec<_> = known
            .chain(comes)
            .map(|(input, tenant)| (Arc::clone(input), tenant.reports().clone()))
            .collect();
        self.around.monitor.watch_inputs(&all, outputs);
    }

    /// Waits until all services have ended, which have been told to.
    pub(crate) async fn all_stopped(&mut self) {
        while self.services.join_next().await.is_some() {}
    }
}
