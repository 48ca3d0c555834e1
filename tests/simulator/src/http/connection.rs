//! Connections that can be cut: the socket closes at once, whatever was to be said on it.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Bytes, HttpBody};
use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use http_body::Frame;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// A handle to one connection, for its requests.
#[derive(Debug, Clone)]
pub(super) struct Connection(CancellationToken);

impl Connection {
    pub(super) fn cut(&self) {
        self.0.cancel();
    }
}

impl Connected<IncomingStream<'_, Listener>> for Connection {
    fn connect_info(stream: IncomingStream<'_, Listener>) -> Self {
        Self(stream.io().cut.clone())
    }
}

/// A body that sends some bytes and fails then, so that the server gives the connection up.
#[derive(Debug)]
pub(super) enum BreakingBody {
    Bytes(Bytes),
    Flush,
    Break,
}

impl HttpBody for BreakingBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match std::mem::replace(&mut *self, Self::Break) {
            Self::Bytes(bytes) => {
                *self = Self::Flush;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Self::Flush => {
                // A server that has to wait for a body writes out what it has; one whose body fails does not.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Self::Break => Poll::Ready(Some(Err(io::ErrorKind::ConnectionReset.into()))),
        }
    }
}

/// Accepts connections that can be cut, each on its own and all at once.
pub(super) struct Listener {
    inner: TcpListener,
    closing: CancellationToken,
}

impl Listener {
    pub(super) fn new(inner: TcpListener, closing: CancellationToken) -> Self {
        Self { inner, closing }
    }
}

impl axum::serve::Listener for Listener {
    type Io = Socket;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Socket, SocketAddr) {
        let (stream, address) = axum::serve::Listener::accept(&mut self.inner).await;
        // Answers are small; without this the peer's delayed acknowledgement costs 40 ms.
        let _ = stream.set_nodelay(true);
        let cut = self.closing.child_token();
        let socket = Socket {
            stream,
            is_cut: Box::pin(cut.clone().cancelled_owned()),
            cut,
        };
        (socket, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

/// A connection.
pub(super) struct Socket {
    stream: TcpStream,
    cut: CancellationToken,
    is_cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Socket {
    fn alive(&self) -> io::Result<()> {
        if self.cut.is_cancelled() {
            Err(io::ErrorKind::ConnectionReset.into())
        } else {
            Ok(())
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.is_cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.alive()?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.alive()?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
