//! Lives through one order's life on a running exchange, tells it line by line, and checks each step.

use std::{io, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use ordertape_client::v1::{
    self, ErrorReason, ExecType, matching_engine_client::MatchingEngineClient, operator_client::OperatorClient,
    order_history_client::OrderHistoryClient,
};
use ordertape_client::watch::{News, watch_orders};
use tokio::{sync::mpsc, time::timeout};
use tonic::{Code, Response, Status, transport::Channel};
use tonic_types::{FieldViolation, StatusExt};

/// Of the whole story; a restart by hand is in it.
const TIMEOUT: Duration = Duration::from_secs(300);

/// Lives through one order's life on a running exchange and checks each step
#[derive(Parser)]
struct Args {
    /// The engine's address
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:50051")]
    engine: String,
    /// The history's address
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:50052")]
    history: String,
    /// Beginning of the two users' names, new to the exchange
    #[arg(long, value_name = "PREFIX", default_value = "story")]
    user: String,
}

struct Story {
    engine: MatchingEngineClient<Channel>,
    history: OrderHistoryClient<Channel>,
    buyer: String,
    seller: String,
    news: mpsc::Receiver<News>,
    /// `user_update_number` of the last update that the watch brought.
    update_number: i64,
}

#[tokio::main]
async fn main() -> Result<()> {
    timeout(TIMEOUT, run(Args::parse())).await.context("the story took too long")?
}

async fn run(args: Args) -> Result<()> {
    let engine = connect(&args.engine).await?;
    let history = OrderHistoryClient::new(connect(&args.history).await?);
    let (buyer, seller) = (format!("{}.buyer", args.user), format!("{}.seller", args.user));

    let mut operator = OperatorClient::new(engine.clone());
    for (user_id, asset, amount) in [(&buyer, "USD", "10000"), (&seller, "ETH", "10")] {
        let deposit = v1::DepositRequest {
            user_id: user_id.clone(),
            asset: asset.into(),
            amount: amount.into(),
            request_id: "deposit".into(),
        };
        let balance = operator.deposit(deposit).await?.into_inner().balance.context("no balance")?;
        println!("{user_id} has {} {asset}", balance.available);
    }
    let (sender, news) = mpsc::channel(100);
    tokio::spawn(watch_orders(history.clone(), buyer.clone(), sender));

    let engine = MatchingEngineClient::new(engine);
    let mut story = Story { engine, history, buyer, seller, news, update_number: 0 };
    story.place_and_fill().await?;
    story.replace_and_cancel().await?;
    story.restart_history().await?;
    story.provoke_errors().await?;
    println!("everything was as it must be");
    Ok(())
}

async fn connect(address: &str) -> Result<Channel> {
    let endpoint = Channel::from_shared(format!("http://{address}"))?;
    endpoint.connect().await.with_context(|| format!("nothing answers at {address}"))
}

impl Story {
    async fn place_and_fill(&mut self) -> Result<()> {
        ensure!(matches!(self.next_news().await?, News::Began), "the watch did not begin");
        let order = self.limit("first", "2");
        let first = self.engine.place_order(order.clone()).await?.into_inner();
        ensure!(!first.replayed, "{} is not new", self.buyer);
        let again = self.engine.place_order(order).await?.into_inner();
        ensure!(again.replayed && again.updates == first.updates, "not the first answer again: {again:?}");
        println!("placed an order twice, and it is there once");
        self.next_update(ExecType::New).await?;

        let buy = self.limit("sell", "0.5");
        let sell = v1::PlaceOrderRequest { user_id: self.seller.clone(), side: v1::Side::Sell.into(), ..buy };
        self.engine.place_order(sell).await?;
        let update = self.next_update(ExecType::Trade).await?;
        ensure!(update.filled_qty == "0.5" && update.leaves_qty() == "1.5", "not 0.5 of 2 are filled: {update:?}");
        Ok(())
    }

    async fn replace_and_cancel(&mut self) -> Result<()> {
        let replace = v1::ReplaceOrderRequest {
            user_id: self.buyer.clone(),
            request_id: Some("replace".into()),
            price: Some("2400".into()),
            order: Some(v1::replace_order_request::Order::ClientOrderId("first".into())),
            ..Default::default()
        };
        self.engine.replace_order(replace).await?;
        self.next_update(ExecType::Replaced).await?;
        let cancel = v1::CancelOrderRequest {
            user_id: self.buyer.clone(),
            request_id: Some("cancel".into()),
            order: Some(v1::cancel_order_request::Order::ClientOrderId("first".into())),
        };
        let cancelled = self.engine.cancel_order(cancel).await?.into_inner();
        self.next_update(ExecType::Cancelled).await?;

        let mut request = v1::ListOrderUpdatesRequest {
            user_id: self.buyer.clone(),
            page_size: 3,
            at_least: cancelled.position,
            order: Some(v1::list_order_updates_request::Order::ClientOrderId("first".into())),
            ..Default::default()
        };
        let mut timeline = Vec::new();
        loop {
            let page = self.history.list_order_updates(request.clone()).await?.into_inner();
            timeline.extend(page.updates.iter().map(v1::OrderUpdate::exec_type));
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        println!("timeline: {timeline:?}");
        let expected = [ExecType::New, ExecType::Trade, ExecType::Replaced, ExecType::Cancelled];
        ensure!(timeline == expected, "the timeline is not {expected:?}");
        Ok(())
    }

    async fn restart_history(&mut self) -> Result<()> {
        println!("restart history");
        match self.next_news().await? {
            News::Broken(status) => println!("the watch broke: {:?}, {}", status.code(), status.message()),
            other => bail!("the watch did not break: {other:?}"),
        }
        self.engine.place_order(self.limit("meanwhile", "1")).await?;
        let answered = tokio::task::spawn_blocking(|| io::stdin().read_line(&mut String::new())).await??;
        ensure!(answered > 0, "nobody said on standard input that the history was restarted");
        self.next_update(ExecType::New).await?;
        self.engine.place_order(self.limit("afterwards", "1")).await?;
        self.next_update(ExecType::New).await?;
        let cancel_all = v1::CancelOrdersRequest { user_id: self.buyer.clone(), ..Default::default() };
        self.engine.cancel_orders(cancel_all).await?;
        self.next_update(ExecType::Cancelled).await?;
        self.next_update(ExecType::Cancelled).await?;
        Ok(())
    }

    async fn provoke_errors(&mut self) -> Result<()> {
        let bad = v1::PlaceOrderRequest { price: Some("-1".into()), ..self.limit("bad", "1e3") };
        let result = self.engine.place_order(bad).await;
        let violations = refusal(result, Code::InvalidArgument, ErrorReason::InvalidRequest)?;
        let fields: Vec<_> = violations.iter().map(|violation| &violation.field).collect();
        ensure!(fields == ["price", "qty"], "not both fields are named: {violations:?}");
        let unknown = v1::GetOrderRequest {
            user_id: self.buyer.clone(),
            order: Some(v1::get_order_request::Order::ClientOrderId("unknown".into())),
            ..Default::default()
        };
        refusal(self.history.get_order(unknown).await, Code::NotFound, ErrorReason::OrderNotFound)?;
        let reused = self.limit("first", "3");
        refusal(self.engine.place_order(reused).await, Code::AlreadyExists, ErrorReason::KeyReused)?;
        Ok(())
    }

    fn limit(&self, client_order_id: &str, qty: &str) -> v1::PlaceOrderRequest {
        v1::PlaceOrderRequest {
            user_id: self.buyer.clone(),
            client_order_id: Some(client_order_id.into()),
            symbol: "ETH-USD".into(),
            side: v1::Side::Buy.into(),
            order_type: v1::OrderType::Limit.into(),
            price: Some("2500".into()),
            qty: Some(qty.into()),
            ..Default::default()
        }
    }

    async fn next_news(&mut self) -> Result<News> {
        self.news.recv().await.context("the watch ended")
    }

    /// The watch's next update; it must be of this type and have the next number.
    async fn next_update(&mut self, exec_type: ExecType) -> Result<v1::OrderUpdate> {
        let update = loop {
            match self.next_news().await? {
                News::Update(update) => break *update,
                News::Broken(_) => continue,
                News::Began => bail!("the watch began anew"),
            }
        };
        let (number, order_id) = (update.user_update_number, update.order_id);
        println!("watch: update {number}: order {order_id}: {:?}, {:?}", update.exec_type(), update.status());
        self.update_number += 1;
        ensure!(number == self.update_number, "that is not update {}", self.update_number);
        ensure!(update.exec_type() == exec_type, "that is not {exec_type:?}");
        Ok(update)
    }
}

/// Checks that a call was refused like this and returns which fields were at fault.
fn refusal<T>(result: Result<Response<T>, Status>, code: Code, reason: ErrorReason) -> Result<Vec<FieldViolation>> {
    let status = result.err().context("a call that must be refused was not")?;
    let details = status.get_error_details();
    let info = details.error_info().context("a refusal without ErrorInfo")?;
    println!("refused: {:?}, {}: {}", status.code(), info.reason, status.message());
    let named = ErrorReason::from_str_name(&format!("ERROR_REASON_{}", info.reason));
    let expected = status.code() == code && info.domain == "ordertape" && named == Some(reason);
    ensure!(expected, "not refused with {code:?}, {reason:?}: {status:?}");
    Ok(details.bad_request().map(|bad_request| bad_request.field_violations.clone()).unwrap_or_default())
}
