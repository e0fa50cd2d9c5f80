//! The protocol names in identify messages. They would carry the mark, which no peer needs to know of.

use super::names;

/// The field of the protocol names in an identify message.
const PROTOCOLS: u64 = 3;

/// The same identify message with the names that the protocols have on the wire; `None` when it is not a protobuf.
pub(super) fn unmarked(protobuf: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(protobuf.len());
    let mut rest = protobuf;
    while !rest.is_empty() {
        let (tag, after) = varint(rest)?;
        let value = match tag & 7 {
            0 => varint(after)?.1,
            1 => after.get(8..)?,
            2 => {
                let (length, content) = varint(after)?;
                let (content, next) = content.split_at_checked(usize::try_from(length).ok()?)?;
                if tag >> 3 == PROTOCOLS {
                    let name = names::unmarked(content);
                    out.extend_from_slice(&rest[..rest.len() - after.len()]);
                    push_varint(&mut out, name.len());
                    out.extend_from_slice(name);
                    rest = next;
                    continue;
                }
                next
            }
            5 => after.get(4..)?,
            _ => return None,
        };
        out.extend_from_slice(&rest[..rest.len() - value.len()]);
        rest = value;
    }
    Some(out)
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (index, byte) in bytes.iter().enumerate().take(9) {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if *byte < 0x80 {
            return Some((value, &bytes[index + 1..]));
        }
    }
    None
}

fn push_varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2];
        push_varint(&mut out, content.len());
        out.extend_from_slice(content);
        out
    }

    #[test]
    fn only_protocol_names_change() {
        let key = field(1, b"/~/key");
        let long = format!("/~/{}", "x".repeat(126));
        let with_marks = [
            key.clone(),
            field(3, b"/~/actor/root/messages/0.0.1"),
            vec![7 << 3, 0x96, 0x01],
            field(3, b"/ipfs/ping/1.0.0"),
            field(3, long.as_bytes()),
        ];
        let without = [
            key,
            field(3, b"actor/root/messages/0.0.1"),
            vec![7 << 3, 0x96, 0x01],
            field(3, b"/ipfs/ping/1.0.0"),
            field(3, &long.as_bytes()[3..]),
        ];
        let whole = with_marks.concat();
        assert_eq!(unmarked(&whole), Some(without.concat()));
        for cut in 0..whole.len() {
            let _ = unmarked(&whole[..cut]);
        }
        assert_eq!(unmarked(&[0x1a, 0x05, b'x']), None);
    }
}
