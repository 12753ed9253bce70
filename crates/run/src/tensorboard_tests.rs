use super::*;

/// What a reader of the format sees in one event.
#[derive(Debug, PartialEq)]
struct Decoded {
    wall_time: f64,
    step: u64,
    version: Option<String>,
    scalars: Vec<Scalar>,
}

/// One field of a protobuf message.
enum Field<'a> {
    Varint(u64),
    Eight([u8; 8]),
    Bytes(&'a [u8]),
    Four([u8; 4]),
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (head, rest) = bytes.split_at(count);
    *bytes = rest;
    head
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return value;
        }
    }
    panic!("a varint of more than ten bytes");
}

fn fields(mut bytes: &[u8]) -> Vec<(u64, Field<'_>)> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let field = match key & 7 {
            0 => Field::Varint(varint(&mut bytes)),
            1 => Field::Eight(take(&mut bytes, 8).try_into().unwrap()),
            2 => {
                let length = varint(&mut bytes) as usize;
                Field::Bytes(take(&mut bytes, length))
            }
            5 => Field::Four(take(&mut bytes, 4).try_into().unwrap()),
            other => panic!("wire type {other}"),
        };
        fields.push((key >> 3, field));
    }
    fields
}

fn decode_event(bytes: &[u8]) -> Decoded {
    let mut event = Decoded { wall_time: f64::NAN, step: 0, version: None, scalars: Vec::new() };
    for (number, field) in fields(bytes) {
        match (number, field) {
            (1, Field::Eight(eight)) => event.wall_time = f64::from_le_bytes(eight),
            (2, Field::Varint(step)) => event.step = step,
            (3, Field::Bytes(text)) => event.version = Some(String::from_utf8(text.to_vec()).unwrap()),
            (5, Field::Bytes(summary)) => {
                for (number, value) in fields(summary) {
                    let (1, Field::Bytes(value)) = (number, value) else { panic!("summary field {number}") };
                    let (mut tag, mut simple_value) = (None, None);
                    for (number, field) in fields(value) {
                        match (number, field) {
                            (1, Field::Bytes(text)) => tag = Some(String::from_utf8(text.to_vec()).unwrap()),
                            (2, Field::Four(four)) => simple_value = Some(f32::from_le_bytes(four)),
                            (number, _) => panic!("value field {number}"),
                        }
                    }
                    event.scalars.push(Scalar { tag: tag.unwrap(), value: simple_value.unwrap() });
                }
            }
            (number, _) => panic!("event field {number}"),
        }
    }
    event
}

/// Decodes a whole file and checks each CRC.
fn decode_file(mut bytes: &[u8]) -> Vec<Decoded> {
    let mut events = Vec::new();
    while !bytes.is_empty() {
        let length = take(&mut bytes, 8);
        assert_eq!(take(&mut bytes, 4), masked_crc(length).to_le_bytes());
        let payload = take(&mut bytes, u64::from_le_bytes(length.try_into().unwrap()) as usize);
        assert_eq!(take(&mut bytes, 4), masked_crc(payload).to_le_bytes());
        events.push(decode_event(payload));
    }
    events
}

fn scalar(tag: &str, value: f32) -> Scalar {
    Scalar { tag: tag.to_owned(), value }
}

/// RFC 3720, appendix B.4, and the usual check value of CRC-32C.
#[test]
fn crc_has_the_published_values() {
    assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
    assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
    assert_eq!(crc32c::crc32c(&[0xff; 32]), 0x62a8_ab43);
    let ascending: Vec<u8> = (0..32).collect();
    assert_eq!(crc32c::crc32c(&ascending), 0x46dd_794e);
}

/// Every file that TensorFlow writes begins with these twelve bytes: the length 24 and its masked CRC.
#[test]
fn begins_as_every_events_file_does() {
    let bytes = record(&version_event(1_700_000_000.0));
    assert_eq!(bytes[..12], [0x18, 0, 0, 0, 0, 0, 0, 0, 0xa3, 0x7f, 0x4b, 0x22]);
    assert_eq!(bytes[12], 0x09, "field 1, eight bytes");
    assert_eq!(bytes[21..36], *b"\x1a\x0dbrain.Event:2");
}

#[test]
fn what_is_written_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = EventFile::replace(folder.path(), 5.0, |sink| {
        sink(10.5, 1, &[scalar("sft/loss", 2.5), scalar("sft/rate", 1e-3)]);
    })
    .unwrap();
    file.append(11.0, 300, &[scalar("ppo/kl", f32::INFINITY)]).unwrap();
    file.append(12.0, u64::from(u32::MAX) + 1, &[]).unwrap();

    let files = event_files(folder.path()).unwrap();
    assert_eq!(files.len(), 1);
    let event = |wall_time, step, scalars| Decoded { wall_time, step, version: None, scalars };
    assert_eq!(
        decode_file(&fs::read(&files[0]).unwrap()),
        vec![
            Decoded { wall_time: 5.0, step: 0, version: Some("brain.Event:2".into()), scalars: vec![] },
            event(10.5, 1, vec![scalar("sft/loss", 2.5), scalar("sft/rate", 1e-3)]),
            event(11.0, 300, vec![scalar("ppo/kl", f32::INFINITY)]),
            event(12.0, 1 << 32, vec![]),
        ]
    );
}

#[test]
fn a_new_file_takes_the_place_of_the_earlier_ones() {
    let folder = tempfile::tempdir().unwrap();
    let first = EventFile::replace(folder.path(), 0.0, |_| {}).unwrap().path;
    let second =
        EventFile::replace(folder.path(), 0.0, |sink| sink(1.0, 7, &[scalar("a/b", 1.0)])).unwrap().path;
    assert!(second > first, "a reader that sorts by name meets the new file last");
    assert_eq!(event_files(folder.path()).unwrap(), vec![second.clone()]);
    let events = decode_file(&fs::read(second).unwrap());
    assert_eq!(events.iter().map(|event| event.step).collect::<Vec<_>>(), [0, 7]);
}
