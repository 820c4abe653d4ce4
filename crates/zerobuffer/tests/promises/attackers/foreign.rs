//! Files of other programs.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use zerobuffer::{KeptBuffer, Reader};

use super::stage::{Child, VICTIM, age, clean_all, config, prepare, stage, write_file};
use crate::support::{confine, role, say};

crate::support::peers!(foreign_files, foreign_semaphores);

#[test]
fn shared_memory_of_other_programs_stays_whatever_stands_beside_it() {
    stage(role!(foreign_files));
}

fn foreign_files(arguments: &[String]) {
    let name = prepare(arguments);
    let foreign =
        [("random", vec![0xe7; 1 << 16]), ("zeros", vec![0; 4096]), ("short", vec![1; 7]), ("empty", vec![])];
    for (what, bytes) in &foreign {
        let path = PathBuf::from(format!("/dev/shm/{name}-{what}"));
        write_file(&path, bytes, 0o600);
        let id = fs::metadata(&path).unwrap().ino();
        Child::run(confine::NOBODY, || {
            for which in ["w", "r"] {
                let semaphore = PathBuf::from(format!("/dev/shm/sem.sem-{which}-{name}-{what}"));
                write_file(&semaphore, &[0; 32], 0o666);
                age(&semaphore);
            }
        });
        // A genuine semaphore of ZeroBuffer, made to name the foreign file as its own.
        Child::run(confine::NOBODY, || {
            let other = format!("{name}-other");
            let _kept = KeptBuffer::create(&other, config()).unwrap();
            let own = fs::metadata(format!("/dev/shm/{other}")).unwrap().ino();
            let mut genuine = fs::read(format!("/dev/shm/sem.sem-w-{other}")).unwrap();
            for at in 0..genuine.len() - 7 {
                if genuine[at..at + 8] == own.to_le_bytes() {
                    genuine[at..at + 8].copy_from_slice(&id.to_le_bytes());
                }
            }
            let semaphore = PathBuf::from(format!("/dev/shm/sem.sem-w-{name}-{what}"));
            write_file(&semaphore, &genuine, 0o666);
            age(&semaphore);
        });
        age(&path);
    }
    for user in [0, confine::NOBODY] {
        Child::run(user, || drop(clean_all()));
    }
    for (what, bytes) in &foreign {
        let buffer = format!("{name}-{what}");
        let error = Reader::create(&buffer, config()).unwrap_err();
        assert!(error.to_string().contains(&format!("/dev/shm/{buffer}")), "{error}");
        assert_eq!(&fs::read(format!("/dev/shm/{buffer}")).unwrap(), bytes, "{what}");
    }
    say("untouched");
}

#[test]
fn semaphores_of_other_programs_stay() {
    stage(role!(foreign_semaphores));
}

fn foreign_semaphores(arguments: &[String]) {
    let name = prepare(arguments);
    // As another program's sem_open("/sem-r-...") makes it, and two that go together.
    let lone = PathBuf::from(format!("/dev/shm/sem.sem-r-{name}"));
    let pair = ["w", "r"].map(|which| PathBuf::from(format!("/dev/shm/sem.sem-{which}-{name}-pair")));
    for user in [0, VICTIM] {
        for path in [&lone].into_iter().chain(&pair) {
            Child::run(user, || write_file(path, &[0; 32], 0o600));
            age(path);
        }
        clean_all();
        assert!(lone.exists() && pair.iter().all(|path| path.exists()), "cleaned away");
        let error = Reader::create(name, config()).unwrap_err();
        assert!(error.to_string().contains(&*lone.to_string_lossy()), "{error}");
        assert!(lone.exists(), "the reader took another program's semaphore away");
        let buffer = format!("{name}-pair");
        if user != 0 {
            let error = Reader::create(&buffer, config()).unwrap_err();
            assert!(error.to_string().contains("sem.sem-w-"), "{error}");
            assert!(pair.iter().all(|path| path.exists()), "the reader took another user's semaphores away");
        }
        // The user's own two under the very names that the buffer needs are what 1.x readers leave behind.
        Child::run(user, || drop(Reader::create(&buffer, config()).unwrap()));
        assert!(pair.iter().all(|path| !path.exists()));
        fs::remove_file(&lone).unwrap();
    }
    say("untouched");
}
