//! The programs of `examples/`: built in every language, and run with each other.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::tools::{self, cargo, run};

/// Seconds after which a program that should have ended is killed.
const PATIENCE: &str = "120";

const STREAM: &str =
    "1: frame 1 of 5\n2: frame 2 of 5\n3: frame 3 of 5\n4: frame 4 of 5\n5: frame 5 of 5\nend of stream\n";
const PICTURES: &str =
    "picture 1: mean brightness 69\npicture 2: mean brightness 89\npicture 3: mean brightness 109\n";
const ANSWERS: &str = "hello -> HELLO\nshared -> SHARED\nmemory -> MEMORY\n";

/// Buffers of an event loop.
const BUFFERS: usize = 20;

/// A library whose loop an example in C uses.
struct Loop {
    topic: &'static str,
    header: &'static str,
    package: &'static str,
}

const LOOPS: &[Loop] = &[
    Loop { topic: "glib_loop", header: "/usr/include/glib-2.0/glib.h", package: "libglib2.0-dev" },
    Loop { topic: "uv_loop", header: "/usr/include/uv.h", package: "libuv1-dev" },
];

impl Loop {
    fn is_there(&self) -> bool {
        Path::new(self.header).exists()
    }

    /// Installs it if this process may. Says so if it is left out.
    fn install(&self) {
        if !self.is_there()
            && tools::is_root()
            && tools::has("apt-get", &["--version"])
            && let Err(error) = tools::apt_install(self.package)
        {
            println!("{error:#}");
        }
        if !self.is_there() {
            println!("{} is not installed here: {} is left out", self.package, self.topic);
        }
    }
}

/// How the programs of a language are started.
struct Language {
    name: &'static str,
    program: Box<dyn Fn(&str) -> Command>,
}

/// Builds all examples and runs every topic with every pair of languages.
pub(crate) fn test(root: &Path, _full: bool) -> Result<()> {
    samples(root)?;
    let languages = build(root)?;
    let mut names = Names(0);
    for first in &languages {
        for second in &languages {
            let pair = format!("{} and {}", first.name, second.name);
            streams(first, second, &mut names).with_context(|| format!("streams of {pair}"))?;
        }
    }
    event_loops(&languages, &mut names)?;
    let find = |name| languages.iter().find(|language| language.name == name);
    if let (Some(camera), Some(enhancer), Some(display)) = (find("C++"), find("Python"), find("C#")) {
        pipeline(camera, [enhancer, enhancer], display, &mut names)
            .context("a camera in C++, an enhancer in Python, a display in C#")?;
        for way in ["copied", "shared"] {
            let seen = |pictures, rate, names: &mut Names| {
                let seen = enhanced(camera, (enhancer, way), display, [pictures, rate], names);
                seen.with_context(|| format!("pictures that are {way}, {rate} a second"))
            };
            println!("C++, Python, C#, 1080p pictures {way}, at 60 a second: {}", seen(120, 60, &mut names)?);
            println!("C++, Python, C#, 1080p pictures {way}, full speed: {}", seen(300, 0, &mut names)?);
        }
    }
    println!("every topic ran in {} languages, and between them", languages.len());
    Ok(())
}

fn build(root: &Path) -> Result<Vec<Language>> {
    run(&mut cargo(
        root,
        &["build", "--quiet", "--package", "zerobuffer", "--features", "tokio", "--examples"],
    ))?;
    tools::need("cmake", "cmake")?;
    tools::need("pkg-config", "pkg-config")?;
    LOOPS.iter().for_each(Loop::install);
    let build = root.join("target/examples");
    run(Command::new("cmake")
        .args(["-S".as_ref(), root.join("examples").as_os_str(), "-B".as_ref(), build.as_os_str()])
        .arg(format!("-DZEROBUFFER_CARGO_TARGET_DIR={}", tools::quick_target(root).display()))
        .stdout(Stdio::null()))?;
    run(tools::build_quickly(Command::new("cmake").arg("--build").arg(&build)).stdout(Stdio::null()))?;
    let python = crate::python::installed(root)?;

    let folder = |path: PathBuf| Box::new(move |topic: &str| Command::new(path.join(topic)));
    let scripts = root.join("examples/python");
    let mut languages = vec![
        Language { name: "Rust", program: folder(root.join("target/debug/examples")) },
        Language { name: "C", program: folder(build.join("c")) },
        Language { name: "C++", program: folder(build.join("cpp")) },
        Language {
            name: "Python",
            program: Box::new(move |topic| {
                let mut command = Command::new(&python);
                command.arg(scripts.join(format!("{topic}.py")));
                command
            }),
        },
    ];
    if let Some(program) = crate::csharp::examples(root)? {
        languages.push(Language { name: "C#", program });
    }
    Ok(languages)
}

/// Runs every topic once: `first` writes, asks and relays first; `second` reads, answers and relays next.
fn streams(first: &Language, second: &Language, names: &mut Names) -> Result<()> {
    let name = names.next();
    let reader = start(second, "stream", &["reader", &name])?;
    let writer = start(first, "stream", &["writer", &name])?;
    says(writer, "")?;
    says(reader, STREAM)?;

    let name = names.next();
    let viewer = start(second, "in_place", &["viewer", &name])?;
    let camera = start(first, "in_place", &["camera", &name])?;
    says(camera, "")?;
    says(viewer, PICTURES)?;

    let name = names.next();
    let mut server = start(second, "duplex", &["server", &name])?;
    says(start(first, "duplex", &["client", &name])?, ANSWERS)?;
    // The server stops at the end of its input, as it does when Enter is pressed.
    drop(server.stdin.take());
    says(server, "")?;

    pipeline(second, [first, second], first, names)
}

/// A stream through two relays. Each inverts it, so that the text comes out as it went in.
fn pipeline(
    camera: &Language,
    enhancers: [&Language; 2],
    display: &Language,
    names: &mut Names,
) -> Result<()> {
    let (head, middle, tail) = (names.next(), names.next(), names.next());
    let reader = start(display, "stream", &["reader", &tail])?;
    let relays =
        [start(enhancers[1], "relay", &[&middle, &tail])?, start(enhancers[0], "relay", &[&head, &middle])?];
    says(start(camera, "stream", &["writer", &head])?, "")?;
    relays.into_iter().try_for_each(|relay| says(relay, ""))?;
    says(reader, STREAM)
}

/// Pictures of a camera that are enhanced, copied or shared, and displayed. Returns what the display has measured.
fn enhanced(
    camera: &Language,
    (enhancer, way): (&Language, &str),
    display: &Language,
    [pictures, rate]: [u32; 2],
    names: &mut Names,
) -> Result<String> {
    let (head, tail) = (names.next(), names.next());
    let (count, rate) = (pictures.to_string(), rate.to_string());
    let display = start(display, "display", &[&tail, &count])?;
    let enhancer = start(enhancer, "enhance", &[way, &head, &tail])?;
    let camera = start(camera, "camera", &[&head, &count, &rate])?;
    // Each ends by itself when another fails, so all of them are waited for before one is judged.
    let [camera, enhancer, display] = [camera, enhancer, display].map(Child::wait_with_output);
    for (name, output) in [("camera", camera), ("enhancer", enhancer)] {
        let status = output?.status;
        if !status.success() {
            bail!("the {name} failed: {status}");
        }
    }
    let display = display?;
    let text = String::from_utf8_lossy(&display.stdout).trim().to_owned();
    let shared = text.split_once(" shared, ").and_then(|(shared, _)| shared.parse::<u32>().ok());
    if !display.status.success() || shared.is_none_or(|shared| (shared > 0) != (way == "shared")) {
        bail!("the display: {}; printed {text:?}", display.status);
    }
    Ok(text)
}

/// Checks that the samples of the page on event loops are parts of the programs that they are said to be from.
fn samples(root: &Path) -> Result<()> {
    let page = root.join("docs/EVENT_LOOPS.md");
    let text = std::fs::read_to_string(&page).with_context(|| format!("cannot read {}", page.display()))?;
    let mut program = String::new();
    let mut sample: Option<String> = None;
    let mut count = 0;
    for line in text.lines() {
        match &mut sample {
            Some(lines) if line == "```" => {
                if !program.contains(lines.as_str()) {
                    bail!("docs/EVENT_LOOPS.md has a sample that is in no program:\n{lines}");
                }
                count += 1;
                sample = None;
            }
            Some(lines) => *lines += &format!("{line}\n"),
            None if line.starts_with("```") => sample = Some(String::new()),
            None => {
                let path =
                    line.strip_prefix("From [").and_then(|rest| rest.split_once(']')).map(|(path, _)| path);
                if let Some(path) = path {
                    program = std::fs::read_to_string(root.join(path))
                        .with_context(|| format!("cannot read {path}"))?;
                }
            }
        }
    }
    if count == 0 {
        bail!("docs/EVENT_LOOPS.md has no sample");
    }
    Ok(())
}

/// Runs every event loop with twenty buffers, and a socket.
fn event_loops(languages: &[Language], names: &mut Names) -> Result<()> {
    let mut ran = Vec::new();
    for language in languages.iter().filter(|language| language.name != "C#") {
        let others = LOOPS.iter().filter(|other| language.name == "C" && other.is_there());
        for topic in std::iter::once("event_loop").chain(others.map(|other| other.topic)) {
            event_loop(language, topic, &languages[0], &names.next())
                .with_context(|| format!("{topic} in {}", language.name))?;
            ran.push(format!("{topic} in {}", language.name));
        }
    }
    println!("{}", ran.join(", "));
    Ok(())
}

fn event_loop(language: &Language, topic: &str, writers: &Language, name: &str) -> Result<()> {
    let mut reader = start(language, topic, &[name])?;
    let mut output = BufReader::new(reader.stdout.take().context("its output is gone")?);
    let mut line = String::new();
    output.read_line(&mut line)?;
    let port = line.trim().strip_prefix("port ").and_then(|port| port.parse::<u16>().ok());
    let port = port.with_context(|| format!("printed {line:?} and not its port"))?;
    TcpStream::connect(("127.0.0.1", port))?.write_all(b"hello\n")?;
    let mut expected = vec!["socket: hello".to_owned()];
    let mut writing = Vec::new();
    for number in 1..=BUFFERS {
        writing.push(start(writers, "stream", &["writer", &format!("{name}-{number}")])?);
        expected.extend((1..=5).map(|frame| format!("{number}: frame {frame} of 5")));
        expected.push(format!("{number}: end of stream"));
    }
    writing.into_iter().try_for_each(|writer| says(writer, ""))?;
    let mut text = String::new();
    output.read_to_string(&mut text)?;
    let status = reader.wait()?;
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    expected.sort_unstable();
    if !status.success() || lines != expected {
        bail!("{status}; printed {text:?}, expected, in any order, {expected:?}");
    }
    Ok(())
}

fn start(language: &Language, topic: &str, arguments: &[&str]) -> Result<Child> {
    let program = (language.program)(topic);
    let mut command = Command::new("timeout");
    command.arg(PATIENCE).arg(program.get_program()).args(program.get_args()).args(arguments);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    child.with_context(|| format!("cannot start {topic} in {}", language.name))
}

/// Waits for a program, which must succeed and print exactly this.
fn says(child: Child, expected: &str) -> Result<()> {
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || text != expected {
        bail!("{}; printed {text:?}, expected {expected:?}", output.status);
    }
    Ok(())
}

/// Unique names of buffers.
struct Names(u32);

impl Names {
    fn next(&mut self) -> String {
        self.0 += 1;
        format!("zbtest-example-{}-{}", std::process::id(), self.0)
    }
}
