//! What the operator is measured against, as a program of its own, so that it can be built and measured in the same way.
//!
//! `default-controller` is kube's `Controller` as it comes: it holds every resource in its store, and its reconcile does
//! nothing. It writes `ready` once it knows all of them and goes on until it is killed. `default-controller list` lists
//! them once, page after page, and ends.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use appcode_operator::api::AppCodeRotation;
use appcode_operator::controller::Notice;
use futures::StreamExt;
use kube::api::{Api, ListParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::watcher;
use kube::{Client, Config};

/// Objects in a page, as the operator asks for them.
const PAGE_SIZE: u32 = 25;

// As many threads as the operator has.
#[tokio::main(worker_threads = 2)]
async fn main() -> Result<()> {
    let config = Config::infer().await.context("no API server was found")?;
    let client = Client::try_from(config)?;
    match std::env::args().nth(1).as_deref() {
        None => control(client).await,
        Some("list") => list(client).await,
        Some(other) => anyhow::bail!("{other:?} is no command"),
    }
}

async fn control(client: Client) -> Result<()> {
    let rotations: Api<AppCodeRotation> = Api::all(client);
    let controller = Controller::new(rotations, watcher::Config::default());
    let store = controller.store();
    let passes = controller.run(rest, |_, _, _| Action::await_change(), Arc::new(()));
    let announce = async {
        match store.wait_until_ready().await {
            Ok(()) => println!("ready"),
            Err(error) => eprintln!("the store is gone: {error}"),
        }
    };
    // An error is a pass that found no object; there is nobody to tell.
    tokio::join!(passes.for_each(|_| async {}), announce);
    Ok(())
}

async fn rest(_: Arc<AppCodeRotation>, _: Arc<()>) -> Result<Action, kube::Error> {
    Ok(Action::await_change())
}

/// Reads of each object what the operator's watch reads, and keeps nothing.
async fn list(client: Client) -> Result<()> {
    let notices: Api<Notice> = Api::all(client);
    let mut params = ListParams::default().limit(PAGE_SIZE);
    let mut count = 0;
    loop {
        let page = notices.list(&params).await?;
        count += page.items.len();
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => break,
        }
    }
    println!("{count}");
    Ok(())
}
