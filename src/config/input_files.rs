//! `inputs.d/*.yaml` beside the configuration: inputs in files of their own, with outputs of their own where a file has some.
//!
//! Guarantees: a file with a mistake is left out and spoils no other; names of inputs and outputs are unique over all files, and of files that
//! share one all are left out, but for one whose inputs run; the records of a file's inputs go to its own outputs or to those of the main file,
//! never to another file's.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::finding::Findings;
use super::inputs::{self, Needed};
use super::outputs::{self, Offered};
use super::reader::{Field, Section};
use super::snapshot::Snapshot;
use super::tree::Node;
use super::words::quoted;
use super::{Config, Finding, Input, LeftOut, Mistakes, Output, file, scalar, yaml};

/// The folder's name.
pub(super) const FOLDER: &str = "inputs.d";

const MISSING: &str = "it was there a moment ago";

/// A file whose inputs can be run as far as it alone can tell.
struct Usable {
    path: PathBuf,
    inputs: Vec<Arc<Input>>,
    disabled: Vec<(String, String)>,
    /// The names of its inputs and outputs, each with what it names and its line.
    names: Vec<(What, String, Option<usize>)>,
}

/// What a name belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum What {
    Input,
    Output,
}

/// What is said beside the mistakes.
#[derive(Default)]
pub(super) struct Remarks {
    pub(super) warnings: Vec<Finding>,
    pub(super) notes: Vec<Finding>,
}

/// Reads `files` into `config`. `running` are the inputs that run; those of a file that is left out go on. `seen` is told what is read, and
/// `look` sees each file's tree.
pub(super) fn read(
    files: Vec<PathBuf>,
    config: &mut Config,
    now: DateTime<Utc>,
    running: &[Arc<Input>],
    seen: &mut Snapshot,
    look: &mut dyn FnMut(&Path, &Node),
) -> Remarks {
    let (mut usable, mut remarks) = (vec![], Remarks::default());
    for path in files {
        let findings = Findings::of_inputs(&path);
        let text = file::text(0, &path, MISSING, &findings);
        let tree = text.and_then(|text| yaml::tree(&text, &findings));
        if let Some(tree) = &tree {
            look(&path, tree);
        }
        let inputs = tree.and_then(|tree| of_file(&path, &tree, config, now, &findings));
        seen.extend(findings.credentials());
        match findings.conclude(inputs) {
            Ok((file, warnings, notes)) => {
                usable.push(file);
                remarks.warnings.extend(warnings);
                remarks.notes.extend(notes);
            }
            Err(mistakes) => config.left_out.push(LeftOut {
                file: path,
                mistakes,
            }),
        }
    }
    for (at, mistakes) in clashes(&usable, config, running).into_iter().rev() {
        let file = usable.remove(at).path;
        config.left_out.push(LeftOut { file, mistakes });
    }
    config.left_out.sort_by(|a, b| a.file.cmp(&b.file));
    for file in usable {
        config.inputs.extend(file.inputs);
        config.disabled.extend(file.disabled);
    }
    keep(config, running);
    remarks
}

fn of_file(
    path: &Path,
    tree: &Node,
    main: &Config,
    now: DateTime<Utc>,
    findings: &Findings,
) -> Option<Usable> {
    let file = Section::root(tree, findings)?;
    let field = file.field("outputs");
    let own = field.is_present();
    let globals = &main.globals;
    let outputs = if own {
        outputs::read(&field, globals.compression, globals.statistics_period)
    } else {
        vec![]
    };
    let mut names = named(What::Output, &field);
    let of_main = main.outputs.iter().map(|output| output.name.clone());
    let known = names.iter().map(|(_, name, _)| name.clone());
    let offered = Offered {
        names: known.chain(of_main).collect(),
        default: if own { outputs } else { main.outputs.clone() },
        further: if own { main.outputs.clone() } else { vec![] },
    };
    let field = file
        .field("inputs")
        .required("the inputs go here, as in config.yaml");
    let needed = if field.is_given() {
        Needed::Listed
    } else {
        // It has been said already.
        Needed::Nothing
    };
    let (mut inputs, disabled) = inputs::read(&field, now, &offered, needed);
    file.warn_of_unknown();
    for input in &mut inputs {
        input.file = Some(path.to_owned());
    }
    let enabled: HashSet<_> = inputs.iter().map(|input| input.name.as_str()).collect();
    let all = named(What::Input, &field).into_iter();
    names.extend(all.filter(|(_, name, _)| enabled.contains(name.as_str())));
    Some(Usable {
        path: path.to_owned(),
        inputs: inputs.into_iter().map(Arc::new).collect(),
        disabled,
        names,
    })
}

fn named(what: What, field: &Field<'_>) -> Vec<(What, String, Option<usize>)> {
    let section = field.peek();
    let fields = section.iter().flat_map(Section::fields);
    let named = fields.filter_map(|field| {
        let (name, _) = scalar::name(field.key()).ok()?;
        Some((what, name, field.line()))
    });
    named.collect()
}

/// The files that cannot be used beside the others, by their places in `files`, in order.
fn clashes(files: &[Usable], main: &Config, running: &[Arc<Input>]) -> Vec<(usize, Mistakes)> {
    let left_out: HashSet<_> = main.left_out.iter().map(|file| &file.file).collect();
    // Of these the inputs go on as they are.
    let kept = running.iter().filter(|input| {
        let file = input.file.as_ref();
        file.is_some_and(|file| left_out.contains(file))
    });
    let mut firm: HashMap<(What, &str), Option<&Path>> = HashMap::new();
    for input in kept {
        let file = input.file.as_deref();
        firm.insert((What::Input, &input.name), file);
        let own = input.outputs.iter().filter(|output| !is_of(main, output));
        firm.extend(own.map(|output| ((What::Output, output.name.as_str()), file)));
    }
    firm.extend(
        main.inputs
            .iter()
            .map(|input| ((What::Input, input.name.as_str()), None)),
    );
    firm.extend(
        main.outputs
            .iter()
            .map(|output| ((What::Output, output.name.as_str()), None)),
    );
    let runs: HashMap<_, _> = running
        .iter()
        .filter_map(|input| Some((input.name.as_str(), input.file.as_deref()?)))
        .collect();
    let mut holders: HashMap<(What, &str), Vec<usize>> = HashMap::new();
    for (at, file) in files.iter().enumerate() {
        for (what, name, _) in &file.names {
            holders.entry((*what, name)).or_default().push(at);
        }
    }
    let mut clashes = vec![];
    for (at, file) in files.iter().enumerate() {
        let findings = file.names.iter().filter_map(|(what, name, line)| {
            let key = (*what, name.as_str());
            let other = if let Some(other) = firm.get(&key) {
                other.map(Path::to_owned)
            } else {
                let other = holders[&key].iter().find(|other| **other != at)?;
                let runs_here = *what == What::Input
                    && runs.get(name.as_str()).copied() == Some(file.path.as_path());
                if runs_here {
                    return None;
                }
                Some(files[*other].path.clone())
            };
            let (key, noun) = match what {
                What::Input => ("inputs", "input"),
                What::Output => ("outputs", "output"),
            };
            let other = other.map_or_else(
                || "the main file".to_owned(),
                |other| other.display().to_string(),
            );
            Some(Finding {
                file: file.path.clone(),
                line: *line,
                key: format!("{key}.{name}"),
                text: format!(
                    "{other} has an {noun} of the name {} as well: give one of them another name, or remove it",
                    quoted(name)
                ),
            })
        });
        let findings: Vec<_> = findings.collect();
        if !findings.is_empty() {
            clashes.push((at, Mistakes::of(findings)));
        }
    }
    clashes
}

fn is_of(main: &Config, output: &Output) -> bool {
    main.outputs.iter().any(|known| known.name == output.name)
}

/// The running inputs of the files that are left out go on, but for those that another file has now.
fn keep(config: &mut Config, running: &[Arc<Input>]) {
    let known: HashSet<_> = config
        .inputs
        .iter()
        .map(|input| input.name.clone())
        .collect();
    let left_out: Vec<_> = config.left_out.iter().map(|out| out.file.clone()).collect();
    let kept = running.iter().filter(|input| {
        let file = input.file.as_ref();
        file.is_some_and(|file| left_out.contains(file)) && !known.contains(&input.name)
    });
    config.inputs.extend(kept.cloned());
}

impl Config {
    /// Leaves an input file out that has turned out to be of no use; of the inputs that run, those of this file go on as they are.
    pub(crate) fn leave_out(
        &mut self,
        file: &Path,
        mistakes: Vec<Finding>,
        running: &[Arc<Input>],
    ) {
        self.inputs
            .retain(|input| input.file.as_deref() != Some(file));
        self.left_out.push(LeftOut {
            file: file.to_owned(),
            mistakes: Mistakes::of(mistakes),
        });
        keep(self, running);
    }
}

impl Input {
    /// Whether the two are run alike; where they stand does not matter.
    pub(crate) fn runs_as(&self, other: &Self) -> bool {
        if self.name != other.name {
            return false;
        }
        let file = self.file.clone();
        *self
            == Self {
                file,
                ..other.clone()
            }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::{Reading, Source};
    use super::*;

    const MAIN: &str = "
globals: {id: 1, name: a}
outputs:
  main: {type: console}
inputs:
  first: {id: 1, credentials: {tenant_id: t, client_id: c, client_secret: s}, services: {office365_reporting_Dlp_service: }}
";

    /// An input with further keys.
    fn input(name: &str, keys: &str) -> String {
        format!(
            "inputs: {{{name}: {{id: 2, {keys} credentials: {{tenant_id: t, client_id: c, client_secret: s}}, \
             services: {{office365_reporting_Dlp_service: }}}}}}\n"
        )
    }

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            let folder = Folder(tempfile::tempdir().unwrap());
            fs::create_dir(folder.0.path().join(FOLDER)).unwrap();
            fs::write(folder.0.path().join("config.yaml"), MAIN).unwrap();
            folder
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.0.path().join(FOLDER).join(name), text).unwrap();
        }

        fn read(&self, running: &[Arc<Input>]) -> Config {
            let source = Source::File(self.0.path().join("config.yaml"));
            let now = "2026-11-22T12:00:00Z".parse().unwrap();
            Reading::of(&source, now, running).loaded.unwrap().config
        }
    }

    /// Each input with its outputs, and what is said of the files that are left out, without their folder.
    fn shown(config: &Config, folder: &Folder) -> (Vec<String>, String) {
        let inputs = config.inputs.iter().map(|input| {
            let outputs = input.outputs.iter().map(|output| output.name.as_str());
            format!("{}: {}", input.name, outputs.collect::<Vec<_>>().join(" "))
        });
        let said = config.left_out.iter().map(|file| file.mistakes.to_string());
        let said = said.collect::<Vec<_>>().join("\n");
        let path = folder.0.path().join(FOLDER).display().to_string();
        (inputs.collect(), said.replace(&format!("{path}/"), ""))
    }

    #[test]
    fn inputs_of_a_file_have_its_own_outputs_or_those_of_the_main_file() {
        let folder = Folder::new();
        folder.write("a.yaml", &input("a", ""));
        folder.write(
            "b.yaml",
            &format!("outputs: {{b: {{type: console}}}}\n{}", input("b", "")),
        );
        let both = format!(
            "outputs: {{c: {{type: console}}}}\n{}",
            input("c", "outputs: [main, c],")
        );
        folder.write("c.yaml", &both);
        folder.write("d.yaml", &input("d", "outputs: [b],"));
        folder.write("e.yaml", &input("e", "enabled: false,"));
        folder.write(".hidden.yaml", "?");
        let (inputs, said) = shown(&folder.read(&[]), &folder);
        assert_eq!(inputs, ["first: main", "a: main", "b: b", "c: main c"]);
        insta::assert_snapshot!(said, @"d.yaml:1: inputs.d.outputs[0]: there is no output `b`: name one of `main`");
    }

    #[test]
    fn a_file_with_a_mistake_is_left_out_and_so_are_those_that_share_a_name() {
        let folder = Folder::new();
        folder.write("a.yaml", "");
        folder.write("b.yaml", "[]");
        folder.write("c.yaml", "outputs: {main: {type: console}}");
        folder.write("d.yaml", &input("same", ""));
        folder.write("e.yaml", &input("same", ""));
        folder.write("f.yaml", &input("first", ""));
        folder.write("g.yaml", &format!("output: {{}}\n{}", input("g", "")));
        folder.write("h.yaml", &format!("outputs:\n{}", input("h", "")));
        folder.write(
            "i.yaml",
            &format!("outputs: {{main: {{type: console}}}}\n{}", input("i", "")),
        );
        folder.write("j.yaml", &input("j", "client_secret_file: none,"));
        let (inputs, said) = shown(&folder.read(&[]), &folder);
        assert_eq!(inputs, ["first: main", "j: main"]);
        insta::assert_snapshot!(said, @r"
        a.yaml: the file is empty: it needs `inputs`, as in the example config/config.yaml, and `outputs` if it has some of its own
        b.yaml:1: the file does not begin with a map of keys: it needs `inputs`, as in the example config/config.yaml, and `outputs` if it has some of its own
        c.yaml: inputs: missing: the inputs go here, as in config.yaml
        d.yaml:1: inputs.same: e.yaml has an input of the name `same` as well: give one of them another name, or remove it
        e.yaml:1: inputs.same: d.yaml has an input of the name `same` as well: give one of them another name, or remove it
        f.yaml:1: inputs.first: the main file has an input of the name `first` as well: give one of them another name, or remove it
        g.yaml:1: output: unknown key, without which records would go to other outputs than they are meant for: did you mean `outputs`?
        h.yaml:1: outputs: no output: name a place where the records go, such as `devo_1` of type `devo_platform`
        i.yaml:1: outputs.main: the main file has an output of the name `main` as well: give one of them another name, or remove it
        ");
    }

    #[test]
    fn of_a_file_that_becomes_of_no_use_the_inputs_stay_and_a_running_one_keeps_its_name() {
        let folder = Folder::new();
        folder.write("a.yaml", &input("a", ""));
        folder.write("b.yaml", &input("b", ""));
        let running = folder.read(&[]).inputs;
        assert_eq!(running.len(), 3);
        folder.write("a.yaml", "a: [");
        folder.write("c.yaml", &input("a", ""));
        folder.write("d.yaml", &input("b", ""));
        let next = folder.read(&running);
        let (inputs, said) = shown(&next, &folder);
        assert_eq!(inputs, ["first: main", "b: main", "a: main"]);
        assert!(
            next.inputs
                .iter()
                .all(|input| running.iter().any(|old| old.runs_as(input)))
        );
        let left_out: Vec<_> = next
            .left_out
            .iter()
            .map(|of| of.file.file_name().unwrap())
            .collect();
        assert_eq!(left_out, ["a.yaml", "c.yaml", "d.yaml"], "{said}");
        fs::remove_file(folder.0.path().join(FOLDER).join("a.yaml")).unwrap();
        fs::remove_file(folder.0.path().join(FOLDER).join("d.yaml")).unwrap();
        let next = folder.read(&running);
        assert_eq!(next.left_out, []);
        assert_eq!(
            shown(&next, &folder).0,
            ["first: main", "b: main", "a: main"]
        );
    }

    #[test]
    fn without_the_folder_the_main_file_needs_an_input() {
        let folder = Folder::new();
        let main = MAIN.split("inputs:").next().unwrap();
        fs::write(folder.0.path().join("config.yaml"), main).unwrap();
        assert_eq!(folder.read(&[]).inputs, []);
        fs::remove_dir(folder.0.path().join(FOLDER)).unwrap();
        let source = Source::File(folder.0.path().join("config.yaml"));
        assert!(super::super::load(&source, Utc::now()).is_err());
    }

    #[test]
    fn the_checksum_is_of_everything_but_secrets() {
        let folder = Folder::new();
        let source = Source::File(folder.0.path().join("config.yaml"));
        let hash = || Reading::of(&source, Utc::now(), &[]).hash;
        let first = hash();
        assert_eq!(hash(), first);
        folder.write("a.yaml", &input("a", ""));
        let second = hash();
        assert_ne!(second, first);
        folder.write(
            "a.yaml",
            &input("a", "").replace("client_secret: s", "client_secret: other"),
        );
        assert_eq!(hash(), second);
        folder.write("a.yaml", &input("a", "environment: x,"));
        assert_ne!(hash(), second);
    }
}
