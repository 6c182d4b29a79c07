//! A watch of one user's orders that is resumed wherever it broke off.

use std::{error::Error, time::Duration};

use tokio::{sync::mpsc::Sender, time::sleep};
use tonic::{Code, Status, transport::Channel};

use crate::v1::{
    OrderUpdate, WatchOrdersRequest, order_history_client::OrderHistoryClient, watch_orders_response::Event,
};

const RETRY_DELAY: Duration = Duration::from_millis(500);

/// What a watch has to tell.
#[derive(Debug)]
pub enum News {
    /// The watch stands; what was open then comes next.
    Began,
    /// An order as it is now. Each update comes once, in the ledger's order.
    Update(Box<OrderUpdate>),
    /// The stream broke. It is resumed unless the history said that it must not be.
    Broken(Status),
}

/// Follows the user's orders until the receiver is dropped or the history refuses to go on.
pub async fn watch_orders(mut history: OrderHistoryClient<Channel>, user_id: String, news: Sender<News>) {
    let mut request = WatchOrdersRequest { user_id, ..Default::default() };
    while let Err(status) = read_stream(&mut history, &mut request, &news).await {
        let resume = is_transient(&status);
        if news.send(News::Broken(status)).await.is_err() || !resume {
            break;
        }
        sleep(RETRY_DELAY).await;
    }
}

/// Reads one stream to its end and moves `after` when everything up to it was handed on.
async fn read_stream(
    history: &mut OrderHistoryClient<Channel>,
    request: &mut WatchOrdersRequest,
    news: &Sender<News>,
) -> Result<(), Status> {
    let mut stream = history.watch_orders(request.clone()).await?.into_inner();
    let mut updates = Vec::new();
    while let Some(message) = stream.message().await? {
        match message.event {
            Some(Event::Snapshot(page)) => updates.extend(page.orders),
            Some(Event::Updates(more)) => updates.extend(more.updates),
            Some(Event::Heartbeat(_)) | None => {}
        }
        if message.position.is_empty() {
            continue; // More of the same batch follows; if the stream breaks before its end, all of it comes again.
        }
        let began = request.after.is_none().then_some(News::Began);
        for item in began.into_iter().chain(updates.drain(..).map(|update| News::Update(Box::new(update)))) {
            news.send(item).await.map_err(|_| Status::cancelled("nobody listens"))?;
        }
        request.after = Some(message.position);
    }
    Ok(())
}

/// The history was away or cut off a slow reader, or the connection broke: tonic says Unknown then and names the source.
fn is_transient(status: &Status) -> bool {
    let transient = [Code::Unavailable, Code::ResourceExhausted, Code::Cancelled];
    transient.contains(&status.code()) || status.source().is_some()
}
