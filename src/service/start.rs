//! Where a service begins: at its cursor, at the start that is configured, where the original collector stopped, or anew after a reset.

use chrono::{DateTime, Utc};
use tracing::warn;

use crate::config::{Credentials, ServiceConfig};
use crate::ledger::{Cursor, Ledger, LedgerError, Original};
use crate::window::{Schedule, Window};

/// Where a service begins.
pub(super) struct Begun {
    pub(super) cursor: DateTime<Utc>,
    /// With nothing that was known before.
    pub(super) anew: bool,
}

/// Makes the first cursor, or the one after a reset, and checks that the state is this tenant's.
pub(super) fn begin(
    ledger: &mut Ledger,
    schedule: &Schedule,
    config: &ServiceConfig,
    tenant: &str,
    original: Option<Original>,
    now: DateTime<Utc>,
) -> Result<Begun, LedgerError> {
    let reset = config.reset_persistence_auth.clone();
    // A start that is configured goes before what the original has left.
    let original = original.filter(|_| config.start_time.is_none());
    let collected = original.map(|original| original.collected(config.delay, now));
    let start = schedule.start(config.start_time.or(collected), now);
    if let Some(known) = ledger.cursor().cloned() {
        if reset.is_none() || reset == known.reset_persistence_auth {
            if is_another_tenant(&known.tenant, tenant) {
                let (folder, now) = (ledger.folder().to_owned(), tenant.to_owned());
                return Err(LedgerError::OtherTenant {
                    folder,
                    known: known.tenant,
                    now,
                });
            }
            return Ok(Begun {
                cursor: known.at,
                anew: false,
            });
        }
        let skipped = (start > known.at).then(|| {
            Window {
                start: known.at,
                end: start,
            }
            .to_string()
        });
        let again = (start < known.at).then(|| {
            Window {
                start,
                end: known.at,
            }
            .to_string()
        });
        warn!(
            reset_persistence_auth = reset, cursor = %known.at, %start, skipped, again,
            "the state is cleared, since reset_persistence_auth has changed"
        );
    }
    if let Some(original) = original {
        warn!(
            files = original.files, oldest = %original.oldest, newest = %original.newest, %start,
            "the original collector's files lie in the state folder, so this service begins where any of its services may have stopped: when \
             the oldest file was written, less the delay and ten minutes; what the original has delivered after that comes twice; to \
             begin elsewhere, give `start_time`, or remove the files of services that it no longer ran"
        );
    }
    let mut cursor = Cursor::begin(start, tenant.to_owned(), reset);
    cursor.by_our_clock = config.start_time.is_none();
    ledger.begin(cursor, now)?;
    Ok(Begun {
        cursor: start,
        anew: true,
    })
}

/// Who the records are from. One known by its users' domain may become known by its id, when Basic is given up.
pub(crate) fn tenant_of(credentials: &Credentials) -> String {
    match credentials {
        Credentials::Basic { username, .. } => {
            format!(
                "domain {}",
                username
                    .rsplit_once('@')
                    .map_or(username.as_str(), |(_, domain)| domain)
            )
        }
        Credentials::Secret { tenant_id, .. } | Credentials::Certificate { tenant_id, .. } => {
            // A directory's id has no dots, each of its domains has.
            let kind = if tenant_id.contains('.') {
                "domain"
            } else {
                "id"
            };
            format!("{kind} {tenant_id}")
        }
    }
}

/// Whether the two cannot be one and the same.
pub(crate) fn is_another_tenant(known: &str, now: &str) -> bool {
    let kind = |tenant: &str| tenant.split(' ').next().map(str::to_owned);
    kind(known) == kind(now) && !known.eq_ignore_ascii_case(now)
}
