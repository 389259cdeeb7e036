//! What is measured, made ready: the programs are built as they are shipped, Python's packages installed, syslog-ng unpacked. All of
//! it goes under cargo's target folder.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use bench::programs::{Program, has_rsyslog};

/// Debian's package, and those that it needs and a small system may not have.
const SYSLOG_NG: [&str; 4] = ["syslog-ng-core", "libivykis0", "libnet1", "libpcre3"];

/// The collector's image, as `tests/docker/run` and the README name it.
const IMAGES: [&str; 2] = [
    "exchange-reports-collector",
    "exchange-reports-collector:test",
];

/// The programs, ready to run.
pub(crate) struct Tools {
    /// The collector's program.
    pub(crate) program: PathBuf,
    others: Vec<Program>,
    /// For files of the bench.
    pub(crate) folder: PathBuf,
}

impl Tools {
    pub(crate) fn prepare() -> Result<Tools> {
        // This program lies in a folder of cargo's target folder.
        let own = std::env::current_exe()?;
        let target = own
            .ancestors()
            .nth(2)
            .context("no target folder")?
            .to_owned();
        let folder = target.join("bench");
        fs::create_dir_all(&folder)?;
        // As the image's build does it.
        cargo(
            [
                "build",
                "--locked",
                "--release",
                "--package",
                "exchange-reports-collector",
            ],
            &[],
        )?;
        cargo(
            [
                "build",
                "--locked",
                "--release",
                "--package",
                "bench",
                "--bin",
                "limit",
            ],
            &[],
        )?;
        let python = python(&folder)?;
        let program = target.join("release/exchange-reports-collector");
        let mut others = vec![
            Program::Watched(program.clone()),
            Program::Unwatched(program.clone()),
            Program::Limit(target.join("release/limit")),
            Program::Original(python.clone()),
            Program::Best(python),
        ];
        ensure!(
            has_rsyslog(),
            "install Debian's packages rsyslog and rsyslog-openssl"
        );
        others.push(Program::Rsyslog);
        others.push(Program::SyslogNg(syslog_ng(&folder)?));
        Ok(Tools {
            program,
            others,
            folder,
        })
    }

    /// The collector, as it is shipped.
    pub(crate) fn collector(&self) -> Program {
        Program::Collector(self.program.clone())
    }

    /// The collector first.
    pub(crate) fn all(&self) -> Vec<Program> {
        let collector = std::iter::once(self.collector());
        collector.chain(self.others.iter().cloned()).collect()
    }

    /// Leaves out those beside the collector whose names begin with none of `names`, if any are given.
    pub(crate) fn keep(&mut self, names: &[String]) {
        if !names.is_empty() {
            self.others.retain(|program| {
                let program = program.to_string();
                names.iter().any(|name| program.starts_with(name.as_str()))
            });
        }
    }

    /// Adds another collector.
    pub(crate) fn add(&mut self, program: &Path) -> Result<()> {
        // Programs are started in folders of their own.
        let program = program
            .canonicalize()
            .with_context(|| format!("no program {}", program.display()))?;
        self.others.insert(0, Program::Beside(program));
        Ok(())
    }

    /// The image's size in MiB, or the program's where there is no image; and which of the two it is.
    pub(crate) fn image(&self) -> Result<(f64, &'static str)> {
        const MIB: f64 = 1_048_576.0;
        for image in IMAGES {
            let size = ["image", "inspect", "--format", "{{.Size}}", image];
            if let Ok(output) = Command::new("docker").args(size).output()
                && output.status.success()
            {
                let size: f64 = str::from_utf8(&output.stdout)?.trim().parse()?;
                return Ok((size / MIB, "image"));
            }
        }
        let size = bench::figures::float(fs::metadata(&self.program)?.len());
        Ok((size / MIB, "program alone (no image is built here)"))
    }

    /// What divan says of the parts. They are built in a folder of their own, with the door to the page splitter open.
    pub(crate) fn parts(&self, quick: bool) -> Result<String> {
        let folder = self.folder.join("parts");
        let variables = [
            ("RUSTFLAGS", OsStr::new("--cfg fuzzing")),
            ("CARGO_TARGET_DIR", folder.as_os_str()),
        ];
        cargo(
            [
                "build",
                "--locked",
                "--release",
                "--package",
                "bench",
                "--bin",
                "parts",
            ],
            &variables,
        )?;
        let output = Command::new(folder.join("release/parts"))
            .args([
                "--bench",
                "--color",
                "never",
                "--max-time",
                if quick { "0.2" } else { "5" },
            ])
            .output()?;
        ensure!(
            output.status.success(),
            "the parts: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?)
    }
}

fn cargo<const N: usize>(arguments: [&str; N], variables: &[(&str, &OsStr)]) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut command = Command::new(cargo);
    command.args(arguments).current_dir(root);
    run(command.envs(variables.iter().copied()))
}

/// The interpreter that has the packages of `requirements.txt`.
fn python(folder: &Path) -> Result<PathBuf> {
    let venv = folder.join("venv");
    let python = venv.join("bin/python");
    if !python.exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    }
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/requirements.txt");
    let pip = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--requirement",
    ];
    run(Command::new(&python).args(pip).arg(requirements))?;
    Ok(python)
}

/// The folder in which syslog-ng is unpacked: installed it would put rsyslog out.
fn syslog_ng(folder: &Path) -> Result<PathBuf> {
    let root = folder.join("syslog-ng");
    if root.join("usr/sbin/syslog-ng").exists() {
        return Ok(root);
    }
    let packages = folder.join("packages");
    fs::create_dir_all(&packages)?;
    run(Command::new("apt-get")
        .arg("download")
        .args(SYSLOG_NG)
        .current_dir(&packages))
    .context("`apt-get update` may help")?;
    for package in fs::read_dir(&packages)? {
        run(Command::new("dpkg-deb")
            .arg("--extract")
            .arg(package?.path())
            .arg(&root))?;
    }
    Ok(root)
}

fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}
