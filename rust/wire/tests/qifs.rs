//! The QPACK interop corpus: what four other encoders wrote decodes to what they were given, and
//! the damaged files give the codes they are meant to.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod support;

use std::fs;

use pywt_wire::codes::error;
use pywt_wire::qpack::{decode_section, encode_section, EncoderStream, Field, QpackError};
use support::{data, Pair};

const MAX_SIZE: usize = 64 * 1024;

/// Stream id and bytes of each record; id 0 is the encoder stream.
fn records(mut file: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let mut records = Vec::new();
    while let Some((id, rest)) = file.split_first_chunk() {
        let (len, rest) = rest.split_first_chunk().unwrap();
        let (bytes, rest) = rest.split_at(u32::from_be_bytes(*len) as usize);
        records.push((u64::from_be_bytes(*id), bytes.to_vec()));
        file = rest;
    }
    assert!(file.is_empty());
    records
}

/// Sections are separated by empty lines, name and value by a tab.
fn qif(name: &str) -> Vec<Vec<Pair>> {
    let text = fs::read(data(format!("qifs/{name}.qif"))).unwrap();
    let mut sections = vec![Vec::new()];
    for line in text.split(|&byte| byte == b'\n') {
        match line.iter().position(|&byte| byte == b'\t') {
            Some(tab) => sections
                .last_mut()
                .unwrap()
                .push((line[..tab].to_vec(), line[tab + 1..].to_vec())),
            None => sections.push(Vec::new()),
        }
    }
    sections.retain(|section| !section.is_empty());
    sections
}

fn pairs(fields: Vec<Field>) -> Vec<Pair> {
    fields
        .into_iter()
        .map(|field| (field.name.to_vec(), field.value.to_vec()))
        .collect()
}

fn decode_file(name: &str) -> Result<Vec<Vec<Pair>>, QpackError> {
    let mut encoder_stream = EncoderStream;
    let mut sections = Vec::new();
    for (stream, bytes) in records(&fs::read(data(format!("qifs/{name}"))).unwrap()) {
        match stream {
            0 => encoder_stream.feed(&bytes)?,
            _ => sections.push(pairs(decode_section(&bytes, MAX_SIZE)?)),
        }
    }
    Ok(sections)
}

#[test]
fn every_file_of_every_encoder_decodes_to_its_input() {
    let mut checked = 0;
    for encoder in ["ls-qpack", "nghttp3", "qthingey", "quinn"] {
        for input in ["fb-req", "fb-resp", "netbsd"] {
            let sections = decode_file(&format!("{encoder}/{input}.out.0.0.0")).unwrap();
            assert_eq!(sections, qif(input), "{encoder} {input}");
            let fields = sections.iter().map(Vec::len).sum::<usize>();
            println!(
                "{encoder} {input}: {} sections, {fields} fields",
                sections.len()
            );
            checked += 1;
        }
    }
    assert_eq!(checked, 12);
}

#[test]
fn the_damaged_files_give_their_codes() {
    for number in 1..=12 {
        let expected = match number {
            9 | 10 => None,
            11 | 12 => Some(error::QPACK_ENCODER_STREAM_ERROR),
            _ => Some(error::QPACK_DECOMPRESSION_FAILED),
        };
        let result = decode_file(&format!("errors/err{number}"));
        println!("err{number}: {result:?}");
        assert_eq!(result.err().map(|e| e.code()), expected, "err{number}");
    }
}

#[test]
fn what_we_encode_decodes_again_and_is_no_larger_than_what_others_write() {
    for input in ["fb-req", "fb-resp", "netbsd"] {
        let mut ours = 0;
        for section in qif(input) {
            let mut out = Vec::new();
            encode_section(section.iter().map(|(name, value)| (name, value)), &mut out);
            ours += out.len();
            assert_eq!(pairs(decode_section(&out, MAX_SIZE).unwrap()), section);
        }
        let theirs = records(&fs::read(data(format!("qifs/ls-qpack/{input}.out.0.0.0"))).unwrap());
        let theirs: usize = theirs.iter().map(|(_, bytes)| bytes.len()).sum();
        println!("{input}: {ours} bytes, ls-qpack {theirs} bytes");
        assert!(ours <= theirs);
    }
}
