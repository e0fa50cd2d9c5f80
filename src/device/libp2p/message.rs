//! Messages of multistream-select: a length as a varint of one or two bytes, a text, a line feed.

use std::io;

use super::names;

pub(super) const HEADER: &[u8] = b"/multistream/1.0.0\n";
const NOT_AVAILABLE: &[u8] = b"na\n";
const LIST_REQUEST: &[u8] = b"ls\n";

/// What a message written by this side says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Header,
    NotAvailable,
    Name,
    List,
}

/// Tells messages of this side apart. An `ls` awaits an answer as a proposal does. The answer to `ls` is a list; the length of its first entry may be the byte of a
/// slash, so a name is what also has no line feed before its end.
pub(super) fn kind(message: &[u8]) -> Kind {
    match message {
        HEADER => Kind::Header,
        NOT_AVAILABLE => Kind::NotAvailable,
        LIST_REQUEST => Kind::Name,
        [b'/', middle @ .., b'\n'] if !middle.contains(&b'\n') => Kind::Name,
        _ => Kind::List,
    }
}

/// Whether this message of a peer refuses what was proposed.
pub(super) fn is_not_available(message: &[u8]) -> bool {
    message == NOT_AVAILABLE
}

/// The message of a peer, with the name that it has inside, and its length in front.
pub(super) fn to_local(message: &[u8]) -> io::Result<Vec<u8>> {
    let Some(name) = message.strip_suffix(b"\n") else {
        return Err(invalid("a message without a line feed at its end"));
    };
    Ok(match message {
        HEADER | NOT_AVAILABLE | LIST_REQUEST => with_length(message),
        _ => with_length(&[&names::marked(name), &b"\n"[..]].concat()),
    })
}

/// The message of this side with the names that it has on the wire, and its length in front.
pub(super) fn to_wire(message: &[u8]) -> io::Result<Vec<u8>> {
    Ok(match kind(message) {
        Kind::Header | Kind::NotAvailable => with_length(message),
        Kind::Name => with_length(names::unmarked(message)),
        Kind::List => with_length(&list_to_wire(message)?),
    })
}

fn list_to_wire(mut list: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(list.len());
    while list != b"\n" {
        let mut entry = Collector::new(MAX_LENGTH);
        let name = loop {
            let Some((taken, rest)) = list.split_at_checked(entry.missing()) else {
                return Err(invalid("a list of names that ends early"));
            };
            list = rest;
            if let Some(name) = entry.take(taken)? {
                break name;
            }
        };
        out.extend(with_length(names::unmarked(&name)));
    }
    out.push(b'\n');
    Ok(out)
}

/// Longest message that two bytes of length can announce.
pub(super) const MAX_LENGTH: usize = 0x3fff;

/// The text with its length in front. Texts here are shorter than [`MAX_LENGTH`]: each was read with that limit, and a
/// mark adds three bytes to what is at most 1024.
pub(super) fn with_length(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 2);
    let [low, high, ..] = text.len().to_le_bytes();
    if text.len() < 0x80 {
        out.push(low);
    } else {
        out.extend([low | 0x80, (high << 1) | (low >> 7)]);
    }
    out.extend_from_slice(text);
    out
}

/// Collects one message from pieces, and never takes a byte that is not its own.
#[derive(Debug)]
pub(super) struct Collector {
    limit: usize,
    length: Length,
    text: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum Length {
    Unknown,
    Low(u8),
    Known(usize),
}

impl Collector {
    pub(super) const fn new(limit: usize) -> Self {
        Self { limit, length: Length::Unknown, text: Vec::new() }
    }

    /// How many bytes may be taken now; at least one.
    pub(super) fn missing(&self) -> usize {
        match self.length {
            Length::Unknown | Length::Low(_) => 1,
            Length::Known(length) => length.saturating_sub(self.text.len()),
        }
    }

    /// Whether the next byte begins a message.
    pub(super) const fn is_empty(&self) -> bool {
        matches!(self.length, Length::Unknown)
    }

    /// Takes at most [`Self::missing`] bytes, and gives the text when it is complete.
    pub(super) fn take(&mut self, bytes: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let Length::Known(length) = self.length else {
            for byte in bytes {
                self.length = self.longer(*byte)?;
            }
            return Ok(None);
        };
        self.text.extend_from_slice(bytes);
        if self.text.len() < length {
            return Ok(None);
        }
        self.length = Length::Unknown;
        Ok(Some(std::mem::take(&mut self.text)))
    }

    /// What was taken of an incomplete message, as it came.
    pub(super) fn give_up(&mut self) -> Vec<u8> {
        let text = std::mem::take(&mut self.text);
        match std::mem::replace(&mut self.length, Length::Unknown) {
            Length::Unknown => text,
            Length::Low(low) => vec![low],
            Length::Known(length) => {
                let head = with_length(&vec![0; length]);
                [&head[..head.len() - length], &text].concat()
            }
        }
    }

    fn longer(&self, byte: u8) -> io::Result<Length> {
        let length = match (self.length, byte) {
            (Length::Unknown, 0x80..) => return Ok(Length::Low(byte)),
            (Length::Unknown, _) => usize::from(byte),
            (Length::Low(low), 0x01..0x80) => usize::from(low & 0x7f) | (usize::from(byte) << 7),
            (Length::Low(_), _) => return Err(invalid("a length of more than two bytes")),
            (Length::Known(length), _) => length,
        };
        if length == 0 || length > self.limit {
            return Err(invalid("a message that is empty or too long"));
        }
        Ok(Length::Known(length))
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("protocol negotiation: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_cross_the_second_byte() {
        for length in [1_usize, 127, 128, 255, 256, 1024, MAX_LENGTH] {
            let text = vec![b'x'; length];
            let framed = with_length(&text);
            let mut collector = Collector::new(MAX_LENGTH);
            let mut at = 0;
            let got = loop {
                let taken = &framed[at..at + collector.missing()];
                at += taken.len();
                if let Some(text) = collector.take(taken).unwrap() {
                    break text;
                }
            };
            assert_eq!((at, got), (framed.len(), text), "{length}");
        }
    }

    #[test]
    fn what_was_collected_comes_back_as_it_came() {
        let framed = with_length(&[b'y'; 300]);
        for cut in 0..framed.len() {
            let mut collector = Collector::new(MAX_LENGTH);
            for byte in &framed[..cut] {
                assert_eq!(collector.take(&[*byte]).unwrap(), None);
            }
            assert_eq!(collector.is_empty(), cut == 0);
            assert_eq!(collector.give_up(), framed[..cut]);
        }
    }

    #[test]
    fn broken_lengths_are_refused() {
        for broken in [&[0][..], &[0x80, 0x00], &[0xff, 0x80], &[0x81, 0x08]] {
            let mut collector = Collector::new(1024);
            let refused = broken.iter().map(|byte| collector.take(&[*byte])).find_map(Result::err);
            assert_eq!(refused.map(|error| error.kind()), Some(io::ErrorKind::InvalidData), "{broken:?}");
        }
    }

    #[test]
    fn lists_lose_their_marks() {
        let long = format!("/~/{}\n", "n".repeat(125));
        let entries = ["/~/actor/root/messages/0.0.1\n", "/ipfs/id/1.0.0\n", &long];
        let list = entries.iter().flat_map(|entry| with_length(entry.as_bytes())).chain(*b"\n").collect::<Vec<_>>();
        let bare = ["actor/root/messages/0.0.1\n", "/ipfs/id/1.0.0\n", &long[3..]];
        let want = bare.iter().flat_map(|entry| with_length(entry.as_bytes())).chain(*b"\n").collect::<Vec<_>>();
        assert_eq!(to_wire(&list).unwrap(), with_length(&want));
        assert!(to_wire(&list[..list.len() - 3]).is_err());
    }
}
