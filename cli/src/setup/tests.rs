//! What is written, what is left alone, and what is taken back.

use std::fs;

use tempfile::TempDir;

use super::*;

fn args(root: &TempDir, engine: Engine) -> SetupArgs {
    SetupArgs {
        engine,
        write: false,
        undo: false,
        mode: None,
        proxy: None,
        data: None,
        root: root.path().to_owned(),
    }
}

fn plan(args: &SetupArgs, mode: Mode) -> Plan {
    let proxy = listens(args.proxy, None).map_err(|failure| failure.error);
    engines::plan(args, mode, proxy.unwrap())
        .map_err(|failure| failure.error)
        .unwrap()
}

fn write(file: &OwnFile) -> Written {
    files::write(file).map_err(|failure| failure.error).unwrap()
}

#[test]
fn what_was_written_is_taken_back() {
    let root = TempDir::new().unwrap();
    for engine in [
        Engine::Docker,
        Engine::Podman,
        Engine::Crio,
        Engine::Containerd,
    ] {
        let mode = if engine == Engine::Containerd {
            Mode::Mirror
        } else {
            Mode::Proxy
        };
        let args = args(&root, engine);
        let plan = plan(&args, mode);
        let file = &plan.files[0];
        assert_eq!(write(file), Written::New);
        assert_eq!(write(file), Written::Same);
        let text = fs::read_to_string(&file.path).unwrap();
        assert!(text.contains("http://127.0.0.1:65001"), "{text}");
        undo(&SetupArgs { undo: true, ..args })
            .map_err(|failure| failure.error)
            .unwrap();
        assert!(!file.path.exists());
    }
}

#[test]
fn a_file_of_somebody_else_is_left_alone() {
    let root = TempDir::new().unwrap();
    let args = args(&root, Engine::Containerd);
    let plan = plan(&args, Mode::Mirror);
    let file = &plan.files[0];
    fs::create_dir_all(file.path.parent().unwrap()).unwrap();
    fs::write(&file.path, "server = \"https://mine\"\n").unwrap();
    assert!(files::write(file).is_err());
    assert!(!files::undo(file).map_err(|failure| failure.error).unwrap());
    assert_eq!(
        fs::read_to_string(&file.path).unwrap(),
        "server = \"https://mine\"\n"
    );
}

#[test]
fn an_older_file_of_ours_is_kept_when_it_is_replaced() {
    let root = TempDir::new().unwrap();
    let older = plan(&args(&root, Engine::Docker), Mode::Proxy);
    write(&older.files[0]);
    let mut changed = args(&root, Engine::Docker);
    changed.proxy = Some("127.0.0.1:7000".parse().unwrap());
    let newer = plan(&changed, Mode::Proxy);
    let Written::Replaced(backup) = write(&newer.files[0]) else {
        panic!("there was one")
    };
    assert_eq!(fs::read_to_string(&backup).unwrap(), older.files[0].text);
    assert!(
        files::undo(&newer.files[0])
            .map_err(|failure| failure.error)
            .unwrap()
    );
    assert!(!backup.exists());
}

#[test]
fn another_proxy_is_not_overruled() {
    let root = TempDir::new().unwrap();
    let folder = root.path().join("etc/systemd/system/docker.service.d");
    fs::create_dir_all(&folder).unwrap();
    fs::write(
        folder.join("http-proxy.conf"),
        "[Service]\nEnvironment=\"HTTPS_PROXY=http://corp:3128\"\n",
    )
    .unwrap();
    let plan = |engine| engines::plan(&args(&root, engine), Mode::Proxy, usual_proxy());
    assert!(plan(Engine::Docker).is_err());
    assert!(plan(Engine::Crio).is_ok());
}

#[test]
fn nothing_is_written_while_no_proxy_answers() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let root = TempDir::new().unwrap();
    let mut args = args(&root, Engine::Containerd);
    (args.write, args.proxy) = (true, Some(StatusAddr::At(addr)));
    assert!(command(&args).is_err());
    assert!(!root.path().join("etc").exists());
}

#[test]
fn what_was_written_is_taken_back_where_the_proxy_is_off() {
    let root = TempDir::new().unwrap();
    let mut args = args(&root, Engine::Podman);
    let written = plan(&args, Mode::Proxy).files.remove(0);
    write(&written);
    args.proxy = Some(StatusAddr::Off);
    assert!(command(&args).is_err());
    args.undo = true;
    assert!(command(&args).is_ok());
    assert!(!written.path.exists());
}

#[test]
fn the_proxy_is_where_the_configuration_says_unless_something_else_is_typed() {
    let addr = |text: &str| Some(text.parse::<StatusAddr>().unwrap());
    let found = |typed, in_file| listens(typed, in_file).ok().map(|found| found.to_string());
    let (typed, in_file) = (addr("127.0.0.1:1"), addr("127.0.0.1:2"));
    assert_eq!(found(typed, in_file).unwrap(), "127.0.0.1:1");
    assert_eq!(found(None, in_file).unwrap(), "127.0.0.1:2");
    assert_eq!(found(None, None).unwrap(), "127.0.0.1:65001");
    assert_eq!(found(None, addr("off")), None);
}
