//! What pages of the documentation say of tests is so: each test that they name exists.

use std::fs;
use std::path::Path;

const PAGE: &str = include_str!("../../ipc-ring/docs/when-a-process-dies.md");
const OPERATIONS: &str = include_str!("../crash/operation.rs");
const KINDS: [&str; 4] = ["spsc", "mpsc", "lanes", "locked"];

/// What `text` names between backticks, as place and name. A line may end in between.
fn references(text: &str) -> Vec<(&str, String)> {
    let spans = text.split('`').skip(1).step_by(2);
    let parts = spans.filter_map(|span| span.split_once(':'));
    parts
        .filter(|(place, what)| {
            (*place == "crash" || place.ends_with(".rs")) && !what.trim().is_empty()
        })
        .map(|(place, what)| (place, what.split_whitespace().collect::<Vec<_>>().join(" ")))
        .collect()
}

/// The source of a function of the crash explorer's operations.
fn function_of_operations(name: &str) -> &'static str {
    let (_, rest) = OPERATIONS
        .split_once(&format!("pub(crate) fn {name}(self"))
        .unwrap();
    rest.split_once("\n    }\n").unwrap().0
}

/// Whether the crash explorer has this operation: for all kinds, or for the one that is said first.
fn is_explored(what: &str) -> bool {
    let (kind, name) = match what.split_once(' ') {
        Some((kind, name)) => (Some(kind), name),
        None => (None, what),
    };
    let names = function_of_operations("name");
    let variant = names
        .lines()
        .filter_map(|line| line.trim().split_once(" => "))
        .find(|(_, text)| *text == format!("\"{name}\","))
        .and_then(|(variant, _)| variant.strip_prefix("Self::"));
    let Some(variant) = variant else {
        return false;
    };
    // Those that not every kind has are named there.
    let mut words = function_of_operations("is_of").split(|c: char| !c.is_alphanumeric());
    match kind {
        Some(kind) => KINDS.contains(&kind),
        None => words.all(|word| word != variant),
    }
}

/// Whether the file has this test. Those that are written for several kinds are listed at its end.
fn is_a_test(place: &str, name: &str) -> bool {
    let is_model = ["models/", "shuttles/"]
        .iter()
        .any(|directory| place.starts_with(directory));
    let directory = match is_model {
        true => "../ipc-ring/src",
        false => "tests",
    };
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(directory)
        .join(place);
    let Ok(source) = fs::read_to_string(path) else {
        return false;
    };
    let lines: Vec<_> = source.lines().map(str::trim).collect();
    let function = lines.iter().position(|line| {
        let rest = line
            .strip_prefix("fn ")
            .and_then(|line| line.strip_prefix(name));
        rest.is_some_and(|rest| rest.starts_with(['(', '<']))
    });
    let is_marked = |line: usize| {
        let above = lines[..line].iter().rev();
        let mut attributes = above.take_while(|line| line.starts_with("#["));
        attributes.any(|line| *line == "#[test]")
    };
    let begin = format!("{name}(");
    let is_listed = || {
        let begins_list = |line: &str| line.starts_with("for_") && line.ends_with("! {");
        let mut list = lines.iter().skip_while(|line| !begins_list(line));
        list.any(|line| line.starts_with(&begin) && line.ends_with(");"))
    };
    function.is_some_and(|line| is_marked(line) || is_listed())
}

fn exists(place: &str, what: &str) -> bool {
    match place {
        "crash" => is_explored(what),
        file => is_a_test(file, what),
    }
}

/// Rows of tables whose last column is called so.
fn rows<'a>(page: &'a str, last: &str) -> Vec<&'a str> {
    let end = format!("| {last} |");
    let (mut rows, mut is_inside) = (Vec::new(), false);
    for line in page.lines() {
        if line.starts_with('|') && (is_inside || line.ends_with(&end)) {
            // The head of a table is not one of its rows.
            if is_inside && !line.starts_with("|---") {
                rows.push(line);
            }
            is_inside = true;
        } else {
            is_inside = false;
        }
    }
    rows
}

#[test]
fn every_test_that_a_page_names_exists() {
    let named = references(PAGE);
    let missing: Vec<_> = named
        .iter()
        .filter(|(place, what)| !exists(place, what))
        .collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn every_row_names_a_test() {
    let rows = rows(PAGE, "shown by");
    assert!(rows.len() > 50, "{}", rows.len());
    for row in rows {
        let (_, shown_by) = row.trim_end_matches([' ', '|']).rsplit_once('|').unwrap();
        assert!(!references(shown_by).is_empty(), "{row}");
    }
}

#[test]
fn what_does_not_exist_is_noticed() {
    let page = "| a | shown by |\n|---|---|\n| `x` | `crash: mpsc\ntry_send`; `crash: no/such` |\n";
    let expected = [("crash", "mpsc try_send"), ("crash", "no/such")];
    let named = references(page);
    assert!(
        named
            .iter()
            .map(|(place, what)| (*place, &**what))
            .eq(expected)
    );
    for (place, what, is_there) in [
        ("crash", "try_send", true),
        ("crash", "mpsc recv/past-claim", true),
        ("crash", "no/such", false),
        ("crash", "futex try_send", false),
        ("crash", "recv/past-claim", false),
        ("pages.rs", "what_does_not_exist_is_noticed", true),
        ("pages.rs", "exists", false),
        ("no_such_file.rs", "exists", false),
        ("odd_worlds/zombies.rs", "a_zombie_counts_as_dead", true),
        (
            "models/takeover.rs",
            "a_sender_killed_at_every_step_is_taken_over_from",
            true,
        ),
    ] {
        assert_eq!(exists(place, what), is_there, "{place}: {what}");
    }
}
