//! The negative controls: each fault that can be planted is planted somewhere in the protocols, and some model, or the crash
//! explorer, insists on failing with it. That it does fail is checked where these run, by `cargo test -p ipc-ring-loom`,
//! `-p ipc-ring-shuttle` and `-p ipc-ring-crash-planted`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Where a fault is named.
#[derive(Default)]
struct Mentions {
    /// In what processes run.
    in_library: usize,
    /// In what stands in for the channel where models run.
    in_stand_in: usize,
    in_models: usize,
    in_crash_explorer: usize,
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The variants of `Fault`.
fn faults(source: &str) -> Vec<String> {
    let (_, rest) = source.split_once("faults! {\n").unwrap();
    let (body, _) = rest.split_once("\n}").unwrap();
    body.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("//"))
        .map(|line| line.trim_end_matches(',').to_owned())
        .collect()
}

/// What is named behind `Fault::` in a source.
fn named(source: &str) -> impl Iterator<Item = &str> {
    source.split("Fault::").skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_alphanumeric());
        &rest[..end.unwrap_or(rest.len())]
    })
}

/// The faults that processes of the crash explorer are started with: the first text behind each `fault(`.
fn started_with(source: &str) -> Vec<&str> {
    let (_, list) = source.split_once("const FAULTS").unwrap();
    let (list, _) = list.split_once("];").unwrap();
    let faults = list.split("fault(").skip(1);
    faults.map(|rest| rest.split('"').nth(1).unwrap()).collect()
}

#[test]
fn every_fault_is_planted_and_is_a_control_of_a_model_or_of_the_crash_explorer() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ipc-ring/src");
    let defined = fs::read_to_string(root.join("sync/faults.rs")).unwrap();
    let known = faults(&defined).into_iter();
    let mut mentions: BTreeMap<_, _> = known.map(|fault| (fault, Mentions::default())).collect();
    assert!(mentions.len() > 30, "{:?}", mentions.keys());
    let mut files = Vec::new();
    sources(&root, &mut files);
    files.retain(|file| !file.ends_with("sync/faults.rs"));
    for file in files {
        let source = fs::read_to_string(&file).unwrap();
        let is_below = |room: &str| {
            file.components().any(|part| {
                let name = part.as_os_str().to_string_lossy();
                name.starts_with(room)
            })
        };
        for fault in named(&source) {
            let Some(mention) = mentions.get_mut(fault) else {
                panic!("{} names an unknown fault: {fault}", file.display());
            };
            if is_below("models") || is_below("shuttles") {
                mention.in_models += 1;
            } else if is_below("heap.rs") {
                mention.in_stand_in += 1;
            } else {
                mention.in_library += 1;
            }
        }
    }
    // It knows faults by their names only, since processes are started with them.
    let explorer = Path::new(env!("CARGO_MANIFEST_DIR")).join("crash/planted.rs");
    let explorer = fs::read_to_string(explorer).unwrap();
    let of_the_crash_explorer = started_with(&explorer);
    for &fault in &of_the_crash_explorer {
        let Some(mention) = mentions.get_mut(fault) else {
            panic!("the crash explorer plants an unknown fault: {fault}");
        };
        mention.in_crash_explorer += 1;
        assert!(mention.in_library > 0, "no process is wrong by {fault}");
    }
    assert!(
        of_the_crash_explorer.len() > 12,
        "{of_the_crash_explorer:?}"
    );
    let controls: usize = mentions.values().map(|mention| mention.in_models).sum();
    println!(
        "{controls} controls of models and {} of the crash explorer, of {} faults",
        of_the_crash_explorer.len(),
        mentions.len()
    );
    for (fault, mention) in mentions {
        let planted = mention.in_library + mention.in_stand_in;
        assert!(planted > 0, "{fault} is planted nowhere");
        let controls = mention.in_models + mention.in_crash_explorer;
        assert!(controls > 0, "nothing is a control for {fault}");
    }
}
