//! Saying in a constant why it can't be evaluated.

use super::sink::Sink;

/// A message of the compiler, put together in a constant.
#[derive(Clone, Copy)]
pub(super) struct Refusal {
    text: [u8; 1024],
    len: usize,
}

impl Refusal {
    pub(super) const fn new() -> Self {
        Self {
            text: [0; 1024],
            len: 0,
        }
    }

    pub(super) const fn of_struct(name: &str) -> Self {
        Self::new().str("struct `").str(name).str("`: ")
    }

    pub(super) const fn str(mut self, text: &str) -> Self {
        let (_, rest) = self.text.split_at_mut(self.len);
        let mut sink = Sink::new(rest);
        sink.str(text);
        self.len += sink.len;
        self
    }

    pub(super) const fn number(mut self, number: usize) -> Self {
        let (_, rest) = self.text.split_at_mut(self.len);
        let mut sink = Sink::new(rest);
        sink.count(number);
        self.len += sink.len;
        self
    }

    pub(super) const fn bytes(self, count: usize) -> Self {
        self.number(count)
            .str(if count == 1 { " byte" } else { " bytes" })
    }

    #[track_caller]
    pub(super) const fn refuse(self) -> ! {
        // Names have at most 128 bytes each and two of them occur, so the text always fits.
        match str::from_utf8(self.text.split_at(self.len).0) {
            Ok(text) => panic!("{}", text),
            Err(_) => panic!("this type can't be a message"),
        }
    }
}
