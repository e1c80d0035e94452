//! Writing the text form in constants.

use super::{Scalar, Schema, Shape};

/// Takes text piece by piece, in constants too: counts it, hashes it, and keeps what `out` has room for.
pub(super) struct Sink<'a> {
    out: &'a mut [u8],
    pub(super) len: usize,
    pub(super) hash: u64,
}

impl<'a> Sink<'a> {
    pub(super) const fn new(out: &'a mut [u8]) -> Self {
        Self {
            out,
            len: 0,
            hash: 0xcbf2_9ce4_8422_2325,
        }
    }

    pub(super) const fn str(&mut self, text: &str) {
        let bytes = text.as_bytes();
        let mut i = 0;
        while i < bytes.len() {
            self.byte(bytes[i]);
            i += 1;
        }
    }

    const fn byte(&mut self, byte: u8) {
        if self.len < self.out.len() {
            self.out[self.len] = byte;
        }
        self.len += 1;
        self.hash = (self.hash ^ byte as u64).wrapping_mul(0x0100_0000_01b3);
    }

    pub(super) const fn number(&mut self, number: u64) {
        let mut unit = 1;
        while number / unit >= 10 {
            unit *= 10;
        }
        while unit > 0 {
            self.byte(b'0' + (number / unit % 10) as u8);
            unit /= 10;
        }
    }

    pub(super) const fn count(&mut self, count: usize) {
        self.number(count as u64);
    }

    pub(super) const fn schema(&mut self, schema: &Schema) {
        match schema.shape {
            Shape::Scalar(scalar) => self.str(scalar.name()),
            Shape::Array { item, len } => {
                self.str("[");
                self.schema(item);
                self.str("; ");
                self.count(len);
                self.str("]");
            }
            Shape::Str { capacity } => {
                self.str("FixedStr<");
                self.count(capacity);
                self.str(">");
            }
            Shape::Vec { item, capacity } => {
                self.str("FixedVec<");
                self.schema(item);
                self.str(", ");
                self.count(capacity);
                self.str(">");
            }
            Shape::Struct { name, fields } => {
                self.str("struct ");
                self.str(name);
                self.str(" (size ");
                self.count(schema.size);
                self.str(", align ");
                self.count(schema.align);
                self.str(") {");
                let mut i = 0;
                while i < fields.len() {
                    self.str(if i == 0 { " " } else { ", " });
                    self.str(fields[i].name);
                    self.str(": ");
                    self.schema(fields[i].schema);
                    self.str(" at ");
                    self.count(fields[i].offset);
                    i += 1;
                }
                self.str(" }");
            }
            Shape::Enum {
                name,
                repr,
                variants,
            } => {
                self.str("enum ");
                self.str(name);
                self.str(": ");
                self.str(Scalar::Int(repr).name());
                self.str(" {");
                let mut i = 0;
                while i < variants.len() {
                    self.str(if i == 0 { " " } else { ", " });
                    self.str(variants[i].name);
                    self.str(" = ");
                    if variants[i].value < 0 {
                        self.str("-");
                    }
                    self.number(variants[i].value.unsigned_abs() as u64);
                    i += 1;
                }
                self.str(" }");
            }
        }
    }
}
