//! T9: answers that are made to fill memory: huge, endless, dripping, and small ones that are huge when they are unpacked.
//! However they come, memory has a flat bound.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use appcode_operator::api::ConditionType;
use jiff::SignedDuration;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::answers::{Asked, Liar, Lie, PASSWORD, world_with};
use super::storms::{alone, is_alone};
use crate::support::World;
use crate::wire::server::Reply;

/// What all bombs together may add to the most memory that was ever in use, in KiB: 2 MiB. Some 1 MiB is seen, most of which
/// the threads of the test's own server take, as it is in the same process. What fills memory has 16 MiB at least in it, so that
/// even half of one that is kept is noticed.
const MOST_GROWTH: usize = 2 << 10;

/// `head -c 16M /dev/zero | gzip -9n`
const GZIP: &[u8] = include_bytes!("16MiB-of-zeros.gz");
const ZEROS: usize = 16 << 20;

/// 64 MiB of zeros, packed by brotli.
const BROTLI: &[u8] = b"\xcf\xff\xff\x7f\xf8\x27\x00\xe2\xb1\x40\x20\xf7\xfe\x9f\xff\xff\xff\x04\xf0\x0c\x46\x10\x18\x0e\
    \xef\xd3\xff\xff\xff\xe1\x9f\x00\x88\xc3\x22\x00\xdd\xfb\x7f\xfe\xff\xff\xc3\x3f\x01\x10\x87\x05\x00\xba\xf7\xff\x03";

/// The same as [`GZIP`] in the format that HTTP calls `deflate`: between another head and another checksum.
fn deflate() -> Vec<u8> {
    let checksum = u32::try_from(ZEROS % 65_521).unwrap() << 16 | 1;
    let packed = &GZIP[10..GZIP.len() - 8];
    [b"\x78\xda", packed, &checksum.to_be_bytes()].concat()
}

fn packed(encoding: &str, body: &[u8]) -> Reply {
    Reply::new(
        200,
        &[("Content-Type", "application/json"), ("Content-Encoding", encoding)],
        body,
    )
}

/// As much as the client takes, up to 1 GiB.
fn flood(head: &'static str, piece: &'static [u8]) -> Reply {
    Reply::Write(Box::new(move |stream| {
        stream.write_all(head.as_bytes())?;
        for _ in 0..(1 << 30) / piece.len() {
            stream.write_all(piece)?;
        }
        Ok(())
    }))
}

const PIECE: &[u8] = &[b' '; 1 << 16];
const CHUNK: &[u8] = b"10\r\n[[[[[[[[[[[[[[[[\r\n";

const BOMBS: [(&str, Lie); 9] = [
    ("packed by gzip", |_| packed("gzip", GZIP)),
    ("packed by deflate", |_| packed("deflate", &deflate())),
    ("packed by brotli", |_| packed("br", BROTLI)),
    ("packed twice, by its head", |_| packed("gzip, br", GZIP)),
    ("packed on the way", |_| {
        let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n";
        let length = format!("{:x}\r\n", GZIP.len());
        Reply::Last([head, length.as_bytes(), GZIP, b"\r\n0\r\n\r\n"].concat())
    }),
    ("1 GiB", |_| {
        flood("HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n", PIECE)
    }),
    ("endless", |_| {
        flood("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", CHUNK)
    }),
    ("an endless header", |_| flood("HTTP/1.1 200 OK\r\nX-Long: ", PIECE)),
    ("dripping", |_| {
        Reply::Write(Box::new(|stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n")?;
            for _ in 0..40 {
                stream.write_all(b" ")?;
                std::thread::sleep(Duration::from_millis(40));
            }
            Ok(())
        }))
    }),
];

/// The most memory that this process ever used, in KiB.
fn peak() -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.unwrap().trim_end_matches("kB").trim().parse().unwrap()
}

#[test]
fn the_bombs_are_real() {
    let mut gzip = Command::new("gzip")
        .arg("-dc")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    gzip.stdin.take().unwrap().write_all(GZIP).unwrap();
    let unpacked = gzip.wait_with_output().unwrap();
    assert!(unpacked.status.success());
    assert_eq!(unpacked.stdout.len(), ZEROS);
    // They are small enough to be read whole before they are unpacked.
    assert!([GZIP, BROTLI, &deflate()].iter().all(|bomb| bomb.len() < 64 << 10));
}

/// Whose answer the bomb is.
struct Aim {
    asked: &'static [Asked],
    /// Whether the operator waits for an honest answer; else it reads what became of the call.
    waits: bool,
    spec: fn(&mut Value),
}

const OF_READINGS: Aim = Aim {
    asked: &[Asked::Reading, Asked::Addition, Asked::Deletion],
    waits: true,
    spec: |spec| {
        spec["strategy"] = json!("Overlap");
        spec["overlap"] = json!({ "gracePeriod": "0s" });
    },
};

const OF_RESETS: Aim = Aim {
    asked: &[Asked::Reset],
    waits: false,
    spec: |_| (),
};

const OF_SIGN_INS: Aim = Aim {
    asked: &[Asked::SignIn],
    waits: true,
    spec: |spec| spec["credentialsRef"] = json!({ "name": PASSWORD }),
};

#[tokio::test]
async fn no_answer_fills_the_memory() {
    drop_bombs("hostile::bombs::no_answer_fills_the_memory", &OF_READINGS).await;
}

#[tokio::test]
async fn no_answer_to_a_reset_fills_the_memory() {
    drop_bombs("hostile::bombs::no_answer_to_a_reset_fills_the_memory", &OF_RESETS).await;
}

#[tokio::test]
async fn no_answer_to_a_sign_in_fills_the_memory() {
    drop_bombs("hostile::bombs::no_answer_to_a_sign_in_fills_the_memory", &OF_SIGN_INS).await;
}

async fn drop_bombs(test: &str, aim: &Aim) {
    if !is_alone() {
        let told = alone(test);
        println!("{told}");
        return;
    }
    let (mut world, liar) = world_with(aim.spec).await;
    // The same without bombs, until all that is kept was got once.
    for round in 0..3 {
        answer_with(
            &mut world,
            &liar,
            aim,
            ("nothing", |_| Reply::new(200, &[], b"")),
            round,
        )
        .await;
    }
    let before = peak();
    for (number, bomb) in BOMBS.into_iter().enumerate() {
        answer_with(&mut world, &liar, aim, bomb, number + 3).await;
        let growth = peak() - before;
        println!("{} {growth}", bomb.0);
        assert!(growth <= MOST_GROWTH, "{}: {growth} KiB more than {before} KiB", bomb.0);
    }
    println!("memory: {before} KiB at most without bombs, {} KiB with them", peak());
}

/// Answers a rotation with this for a while, and then with the truth.
async fn answer_with(world: &mut World, liar: &Mutex<Liar>, aim: &Aim, (row, lie): (&str, Lie), number: usize) {
    world.restart(); // a process that has no token yet
    let count = || {
        aim.asked
            .iter()
            .map(|asked| liar.lock().unwrap().count(*asked))
            .sum::<usize>()
    };
    let asked = count();
    liar.lock().unwrap().lies = Some((aim.asked, lie));
    world.stage.set_trigger(&number.to_string());
    world.run_for(SignedDuration::from_mins(5)).await;
    assert!(count() > asked, "{row} was sent");
    let told = world.condition(ConditionType::Reconciling);
    assert_eq!(told.1 == "Retrying", aim.waits, "{row}: {told:?}");
    liar.lock().unwrap().lies = None;
    world.run_for(SignedDuration::from_mins(90)).await;
    assert!(world.is_ready(), "{row}: {:?}", world.condition(ConditionType::Ready));
    // The notes of the test would be measured too.
    world.stage.api.forget();
    world.stage.script.begin(Vec::new());
}
