//! What the user asks for.

use std::ffi::OsString;

pub(crate) const USAGE: &str = "\
usage: demo [--senders N] [FILE]
  --senders N   how many send to one receiver at once: 1 to 1,023 (default: 4)
  FILE          the file to stream last (default: the largest library of the toolchain)";

/// As many as a ring may have.
const MOST_SENDERS: u32 = 1023;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    pub(crate) senders: u32,
    pub(crate) file: Option<OsString>,
}

impl Arguments {
    /// What they mean, or else what is wrong with them.
    pub(crate) fn parse(arguments: &[OsString]) -> Result<Self, String> {
        let (mut senders, mut file) = (None, None);
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let text = argument.to_string_lossy();
            if text == "--senders" {
                let number = arguments.next().ok_or("--senders needs a number")?;
                if senders.replace(parse_senders(number)?).is_some() {
                    return Err("--senders is given twice".to_owned());
                }
            } else if text.starts_with('-') {
                return Err(format!("there is no option {text:?}"));
            } else if file.replace(argument.clone()).is_some() {
                return Err(format!("one file at a time: {text:?} is the second"));
            }
        }
        Ok(Self {
            senders: senders.unwrap_or(4),
            file,
        })
    }
}

fn parse_senders(number: &OsString) -> Result<u32, String> {
    let text = number.to_string_lossy();
    match text.parse() {
        Ok(senders @ 1..=MOST_SENDERS) => Ok(senders),
        _ => Err(format!("--senders takes 1 to 1,023, and not {text:?}")),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    fn parse(arguments: &[&str]) -> Result<Arguments, String> {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        Arguments::parse(&arguments)
    }

    #[test]
    fn senders_and_file_may_come_in_any_order_or_not_at_all() {
        let meant = |senders, file: Option<&str>| {
            Ok(Arguments {
                senders,
                file: file.map(OsString::from),
            })
        };
        assert_eq!(parse(&[]), meant(4, None));
        assert_eq!(parse(&["a file"]), meant(4, Some("a file")));
        assert_eq!(parse(&["--senders", "1"]), meant(1, None));
        assert_eq!(
            parse(&["--senders", "1023", "file"]),
            meant(1023, Some("file"))
        );
        assert_eq!(parse(&["file", "--senders", "2"]), meant(2, Some("file")));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let out_of_range = "--senders takes 1 to 1,023, and not ";
        for (arguments, what) in [
            (&["--senders"][..], "--senders needs a number"),
            (&["file", "--senders"], "--senders needs a number"),
            (&["--senders", "0"], out_of_range),
            (&["--senders", "1024"], out_of_range),
            (&["--senders", "-1"], out_of_range),
            (&["--senders", "4294967297"], out_of_range),
            (&["--senders", "x"], out_of_range),
            (&["--senders", ""], out_of_range),
            (&["--senders", "2", "--senders", "2"], "given twice"),
            (&["--sender", "2"], "no option \"--sender\""),
            (&["--senders=2"], "no option \"--senders=2\""),
            (&["-x"], "no option \"-x\""),
            (&["one", "two"], "\"two\" is the second"),
        ] {
            let error = parse(arguments).expect_err(what);
            assert!(error.contains(what), "{arguments:?}: {error}");
        }
    }

    #[test]
    fn a_file_name_need_not_be_text() {
        let name = OsStr::from_bytes(b"\xff\xfe").to_owned();
        let parsed = Arguments::parse(std::slice::from_ref(&name)).expect("a file");
        assert_eq!(parsed.file, Some(name));
    }
}
