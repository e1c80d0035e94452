//! The negative controls of the models: each fault that can be planted is planted somewhere in the protocols, and some model
//! insists on failing with it. That it does fail is checked where the models run, by `cargo test -p ipc-ring-loom` and
//! `-p ipc-ring-shuttle`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Where a fault is named.
#[derive(Default)]
struct Mentions {
    in_protocols: usize,
    in_models: usize,
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

#[test]
fn every_fault_is_planted_and_is_a_control_of_some_model() {
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
        let is_model = file.components().any(|part| {
            let name = part.as_os_str().to_string_lossy();
            name.starts_with("models") || name.starts_with("shuttles")
        });
        for fault in named(&source) {
            let Some(mention) = mentions.get_mut(fault) else {
                panic!("{} names an unknown fault: {fault}", file.display());
            };
            match is_model {
                true => mention.in_models += 1,
                false => mention.in_protocols += 1,
            }
        }
    }
    let controls: usize = mentions.values().map(|mention| mention.in_models).sum();
    println!("{controls} controls of {} faults", mentions.len());
    for (fault, mention) in mentions {
        assert!(mention.in_protocols > 0, "{fault} is planted nowhere");
        assert!(mention.in_models > 0, "no model is a control for {fault}");
    }
}
