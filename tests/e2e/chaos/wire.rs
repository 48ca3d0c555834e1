//! A TCP proxy in front of the API server or the cloud that loses, holds up and cuts connections. It knows nothing of what they
//! carry.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// What becomes of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They work.
    Pass,
    /// They are closed, and so is each new one.
    Cut,
    /// They stay open and say nothing more, then and ever after, as behind a router that forgot them.
    BlackHole,
    /// They stay open and say later what was to be said meanwhile.
    Freeze,
}

/// A running proxy; it ends with all its connections when it is dropped.
pub struct Wire {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    task: JoinHandle<()>,
}

impl Wire {
    /// A proxy to `server` that lets everything pass.
    pub async fn to(server: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (mode, seen) = watch::channel(Mode::Pass);
        let task = tokio::spawn(accept(listener, server, seen));
        Ok(Self { address, mode, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what becomes of connections, those that are open included.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, mode: watch::Receiver<Mode>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        connections.spawn(carry(client, server, mode.clone()));
        while connections.try_join_next().is_some() {}
    }
}

/// Carries one connection until one side closes it.
async fn carry(client: TcpStream, server: SocketAddr, mode: watch::Receiver<Mode>) {
    if *mode.borrow() == Mode::Cut {
        return;
    }
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = pump(from_client, to_server, mode.clone()) => {}
        () = pump(from_server, to_client, mode) => {}
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut mode: watch::Receiver<Mode>) {
    let mut is_forgotten = *mode.borrow_and_update() == Mode::BlackHole;
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let count = tokio::select! {
            read = from.read(&mut buffer) => match read {
                Ok(count) if count > 0 => count,
                _ => return,
            },
            changed = mode.changed() => match changed {
                Ok(()) => 0,
                Err(_) => return,
            },
        };
        match mode.wait_for(|mode| *mode != Mode::Freeze).await.map(|mode| *mode) {
            Ok(Mode::Pass | Mode::Freeze) => {}
            Ok(Mode::BlackHole) => is_forgotten = true,
            Ok(Mode::Cut) | Err(_) => return,
        }
        if !is_forgotten && to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
