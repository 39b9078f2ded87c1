//! The static table (RFC 9204 appendix A) and the way back from a field to its index.

/// Names and values by index.
pub const ENTRIES: [(&str, &str); 99] = [
    (":authority", ""),
    (":path", "/"),
    ("age", "0"),
    ("content-disposition", ""),
    ("content-length", "0"),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("referer", ""),
    ("set-cookie", ""),
    (":method", "CONNECT"),
    (":method", "DELETE"),
    (":method", "GET"),
    (":method", "HEAD"),
    (":method", "OPTIONS"),
    (":method", "POST"),
    (":method", "PUT"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "103"),
    (":status", "200"),
    (":status", "304"),
    (":status", "404"),
    (":status", "503"),
    ("accept", "*/*"),
    ("accept", "application/dns-message"),
    ("accept-encoding", "gzip, deflate, br"),
    ("accept-ranges", "bytes"),
    ("access-control-allow-headers", "cache-control"),
    ("access-control-allow-headers", "content-type"),
    ("access-control-allow-origin", "*"),
    ("cache-control", "max-age=0"),
    ("cache-control", "max-age=2592000"),
    ("cache-control", "max-age=604800"),
    ("cache-control", "no-cache"),
    ("cache-control", "no-store"),
    ("cache-control", "public, max-age=31536000"),
    ("content-encoding", "br"),
    ("content-encoding", "gzip"),
    ("content-type", "application/dns-message"),
    ("content-type", "application/javascript"),
    ("content-type", "application/json"),
    ("content-type", "application/x-www-form-urlencoded"),
    ("content-type", "image/gif"),
    ("content-type", "image/jpeg"),
    ("content-type", "image/png"),
    ("content-type", "text/css"),
    ("content-type", "text/html; charset=utf-8"),
    ("content-type", "text/plain"),
    ("content-type", "text/plain;charset=utf-8"),
    ("range", "bytes=0-"),
    ("strict-transport-security", "max-age=31536000"),
    (
        "strict-transport-security",
        "max-age=31536000; includesubdomains",
    ),
    (
        "strict-transport-security",
        "max-age=31536000; includesubdomains; preload",
    ),
    ("vary", "accept-encoding"),
    ("vary", "origin"),
    ("x-content-type-options", "nosniff"),
    ("x-xss-protection", "1; mode=block"),
    (":status", "100"),
    (":status", "204"),
    (":status", "206"),
    (":status", "302"),
    (":status", "400"),
    (":status", "403"),
    (":status", "421"),
    (":status", "425"),
    (":status", "500"),
    ("accept-language", ""),
    ("access-control-allow-credentials", "FALSE"),
    ("access-control-allow-credentials", "TRUE"),
    ("access-control-allow-headers", "*"),
    ("access-control-allow-methods", "get"),
    ("access-control-allow-methods", "get, post, options"),
    ("access-control-allow-methods", "options"),
    ("access-control-expose-headers", "content-length"),
    ("access-control-request-headers", "content-type"),
    ("access-control-request-method", "get"),
    ("access-control-request-method", "post"),
    ("alt-svc", "clear"),
    ("authorization", ""),
    (
        "content-security-policy",
        "script-src 'none'; object-src 'none'; base-uri 'none'",
    ),
    ("early-data", "1"),
    ("expect-ct", ""),
    ("forwarded", ""),
    ("if-range", ""),
    ("origin", ""),
    ("purpose", "prefetch"),
    ("server", ""),
    ("timing-allow-origin", "*"),
    ("upgrade-insecure-requests", "1"),
    ("user-agent", ""),
    ("x-forwarded-for", ""),
    ("x-frame-options", "deny"),
    ("x-frame-options", "sameorigin"),
];

/// How much of a field the static table has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Match {
    /// Name and value.
    Field(usize),
    /// Only the name.
    Name(usize),
    /// Nothing.
    Nothing,
}

/// The entry at `index`.
#[inline]
pub fn get(index: usize) -> Option<(&'static [u8], &'static [u8])> {
    ENTRIES
        .get(index)
        .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
}

/// The best entry for a field.
#[inline]
pub fn find(name: &[u8], value: &[u8]) -> Match {
    let Some(first) = find_name(name) else {
        return Match::Nothing;
    };
    let mut index = first;
    loop {
        match ENTRIES.get(index) {
            Some(entry) if entry.1.as_bytes() == value => return Match::Field(index),
            _ => {}
        }
        match NEXT.get(index) {
            Some(&next) if next != NONE => index = usize::from(next),
            _ => return Match::Name(first),
        }
    }
}

/// The lowest index with this name.
#[inline]
fn find_name(name: &[u8]) -> Option<usize> {
    let mut slot = hash(name);
    loop {
        let index = usize::from(*SLOTS.get(slot % SLOT_COUNT)?);
        // An empty slot holds NONE, which is past the end of the table.
        if ENTRIES.get(index)?.0.as_bytes() == name {
            return Some(index);
        }
        slot += 1;
    }
}

/// Four bytes tell all names of the table apart well enough for short probes.
#[inline]
const fn hash(name: &[u8]) -> usize {
    let Some((&last, _)) = name.split_last() else {
        return 0;
    };
    let middle = name.len() / 2;
    let (Some((_, tail)), Some(&first)) = (name.split_at_checked(middle), name.first()) else {
        return 0;
    };
    let middle = match tail.first() {
        Some(&byte) => byte,
        None => 0,
    };
    name.len() * 7 + first as usize * 5 + middle as usize * 23 + last as usize * 59
}

const NONE: u8 = u8::MAX;
const SLOT_COUNT: usize = 256;

/// Open addressing from [`hash`] to the lowest index of a name.
static SLOTS: [u8; SLOT_COUNT] = TABLES.0;
/// The next higher index with the same name.
static NEXT: [u8; ENTRIES.len()] = TABLES.1;

const TABLES: ([u8; SLOT_COUNT], [u8; ENTRIES.len()]) = {
    let mut slots = [NONE; SLOT_COUNT];
    let mut next = [NONE; ENTRIES.len()];
    let mut index = 0;
    while index < ENTRIES.len() {
        let name = ENTRIES[index].0.as_bytes();
        let mut slot = hash(name) % SLOT_COUNT;
        loop {
            if slots[slot] == NONE {
                slots[slot] = index as u8;
                break;
            }
            let mut same = slots[slot] as usize;
            if equal(ENTRIES[same].0.as_bytes(), name) {
                while next[same] != NONE {
                    same = next[same] as usize;
                }
                next[same] = index as u8;
                break;
            }
            slot = (slot + 1) % SLOT_COUNT;
        }
        index += 1;
    }
    (slots, next)
};

const fn equal(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_found_at_its_index() {
        for (index, (name, value)) in ENTRIES.iter().enumerate() {
            assert_eq!(find(name.as_bytes(), value.as_bytes()), Match::Field(index));
            let first = ENTRIES.iter().position(|entry| entry.0 == *name).unwrap();
            assert_eq!(find(name.as_bytes(), b"no such value"), Match::Name(first));
            assert_eq!(get(index), Some((name.as_bytes(), value.as_bytes())));
        }
        assert_eq!(get(ENTRIES.len()), None);
    }

    #[test]
    fn names_that_are_not_in_the_table_are_not_found() {
        for name in ["", ":protocol", "wt-protocol", "originX", "Origin", "x"] {
            assert_eq!(find(name.as_bytes(), b""), Match::Nothing, "{name}");
        }
    }

    #[test]
    fn a_lookup_probes_few_slots() {
        let probes = ENTRIES.iter().map(|(name, _)| {
            let home = hash(name.as_bytes());
            (0..SLOT_COUNT)
                .find(|step| {
                    let index = usize::from(SLOTS[(home + step) % SLOT_COUNT]);
                    ENTRIES.get(index).is_some_and(|entry| entry.0 == *name)
                })
                .unwrap()
        });
        assert!(probes.max() <= Some(3));
    }
}
