//! The codes of Entra's errors, `AADSTS…`, as Microsoft documents them ("Microsoft Entra authentication and authorization error codes"): which pass
//! by themselves, and what a person can do about the others.
//!
//! The codes may change at any time. One that is not known here has its general advice; nothing but advice and patience depends on them.

/// Codes of failures that pass by themselves, though the error may read as a refusal. 700024: the proof's times are off; the next one goes by
/// the directory's clock.
pub(super) const PASSING: [u32; 11] = [
    50_000, 50_033, 50_087, 90_006, 90_012, 90_024, 90_025, 90_033, 90_090, 90_091, 700_024,
];

/// Codes by which the directory says that it is asked too often: a loop of requests, or too many of the tenant's.
pub(super) const TOO_OFTEN: [u32; 2] = [50_196, 90_055];

const CONSENT: &str = "give the application the permission ReportingWebService.Read.All of Office 365 Exchange Online in its registration, and \
     let an administrator consent to it for the tenant";
const CONDITIONAL_ACCESS: &str = "a Conditional Access policy for workload identities blocks the application: let an administrator exclude it from \
     the policy, or allow the address of this machine; the directory's sign-in log names the policy";
const TENANT_RESTRICTIONS: &str = "a proxy on the way adds a tenant restriction (`Restrict-Access-To-Tenants`) that does not list this tenant: have \
     `tenant_id` added there, or let `authority_url` pass around it";
const CLOUD: &str = "the tenant belongs to another cloud: set `authority_url` and `base_url` to those of the tenant's national cloud";
const CERTIFICATE: &str = "the directory does not accept the certificate: upload `client_certificate` to the application's registration, and check \
     that it has not expired";
const SCOPE: &str = "the scope is not accepted: check the `base_url` and `authority_url` of your national cloud, and `scope` if it is set";
const SERVICE: &str =
    "the tenant has no such service: check the scope, and that Exchange Online is licensed there";
const TENANT: &str =
    "there is no such tenant: check `tenant_id`, and `authority_url` for national clouds";

/// What a person can do about a code.
const ADVICE: [(&[u32], &str); 22] = [
    (
        &[7_000_215, 70_002, 7_000_216],
        "`client_secret` is wrong: it must be the secret's value, not its id, and belong to this `client_id`",
    ),
    (
        &[7_000_222],
        "`client_secret` has expired: make a new one in the application's registration",
    ),
    (
        &[7_000_218, 900_144, 90_014],
        "the directory misses a part of the request: check `client_secret`, or `client_certificate` and `client_key`, and that no proxy changes \
         requests",
    ),
    (
        &[700_016, 700_011],
        "the tenant does not know the application: check `client_id` and `tenant_id`",
    ),
    (
        &[7_000_229],
        "the application has no service principal in the tenant: let an administrator of this tenant consent to it",
    ),
    (
        &[7_000_112, 70_001],
        "the application is disabled in the tenant: enable it under its enterprise application (sign-in enabled for users)",
    ),
    (
        &[700_025],
        "the application is registered as a public client: register it as a confidential one, with a secret or a certificate",
    ),
    (&[700_027, 700_030, 50_012, 50_017], CERTIFICATE),
    (
        &[50_027, 50_048, 5_002_738],
        "the proof of the sign-in is not accepted: check that `client_id`, `tenant_id` and `authority_url` are the application's, and its certificate",
    ),
    (
        &[700_023],
        "the audience or the scope is not accepted: check `authority_url`, `tenant_id` and the national cloud's addresses",
    ),
    (&[90_002, 50_059, 90_019, 50_128], TENANT),
    (
        &[900_021, 900_023],
        "`tenant_id` is neither a directory's id nor a domain",
    ),
    (
        &[9_001_023, 50_194],
        "`tenant_id` must name the tenant, by its id or a domain: `common`, `organizations` and `consumers` are not enough",
    ),
    (
        &[50_034, 51_004, 50_020, 50_057, 50_055, 50_126, 50_053],
        "the directory speaks of a user's account, though an application signs in: check `tenant_id` and `client_id`, and whether `authority_url` leads \
         to another identity provider",
    ),
    (
        &[70_011, 1_002_012, 28_002, 28_003, 700_022, 9_002_313],
        SCOPE,
    ),
    (&[500_011, 50_001, 650_052, 650_054], SERVICE),
    (
        &[
            65_001, 65_005, 650_056, 650_057, 90_008, 90_093, 90_094, 90_099,
        ],
        CONSENT,
    ),
    (
        &[50_105, 501_051],
        "the application is not assigned to the service: assign it in its enterprise application, or drop the requirement of an assignment",
    ),
    (
        &[
            53_000, 53_001, 53_003, 53_004, 50_131, 50_076, 50_079, 530_032, 530_034, 530_035,
        ],
        CONDITIONAL_ACCESS,
    ),
    (
        &[50_002, 500_021, 500_022, 500_212, 500_213],
        TENANT_RESTRICTIONS,
    ),
    (&[90_038, 90_043, 90_051, 50_049, 900_382, 900_432], CLOUD),
    (
        &[1_002_016],
        "something on the way breaks TLS up and speaks TLS 1.0 or 1.1 to the directory: let `authority_url` pass around it",
    ),
];

/// What a person can do about a code, if it is known.
pub(super) fn advice(code: u32) -> Option<&'static str> {
    let mut all = ADVICE.iter();
    all.find(|(codes, _)| codes.contains(&code))
        .map(|(_, advice)| *advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_stands_in_one_place() {
        let advised = ADVICE.iter().flat_map(|(codes, _)| *codes);
        let mut known: Vec<_> = advised.chain(&PASSING).chain(&TOO_OFTEN).collect();
        let all = known.len();
        known.sort();
        known.dedup();
        assert_eq!(known.len(), all);
    }
}
