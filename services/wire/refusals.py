"""One table: what each of the core's refusals is as a gRPC error."""

from typing import Final

import grpc

from ordertape.v1 import error_reason_pb2 as reasons
from services.domain import errors
from services.wire.errors import CallError

REFUSALS: Final[dict[type[errors.Refused], tuple[grpc.StatusCode, "reasons.ErrorReason.ValueType"]]] = {
    errors.UnknownSymbol: (grpc.StatusCode.NOT_FOUND, reasons.ERROR_REASON_SYMBOL_NOT_FOUND),
    errors.UnknownAsset: (grpc.StatusCode.NOT_FOUND, reasons.ERROR_REASON_ASSET_NOT_FOUND),
    errors.OrderNotOpen: (grpc.StatusCode.NOT_FOUND, reasons.ERROR_REASON_ORDER_NOT_FOUND),
    errors.VersionMismatch: (grpc.StatusCode.ABORTED, reasons.ERROR_REASON_VERSION_MISMATCH),
    errors.ReplaceRefused: (grpc.StatusCode.FAILED_PRECONDITION, reasons.ERROR_REASON_REPLACE_REFUSED),
    errors.InsufficientFunds: (grpc.StatusCode.FAILED_PRECONDITION, reasons.ERROR_REASON_INSUFFICIENT_FUNDS),
    errors.AmountOffStep: (grpc.StatusCode.FAILED_PRECONDITION, reasons.ERROR_REASON_AMOUNT_OFF_STEP),
    errors.BadInstrument: (grpc.StatusCode.FAILED_PRECONDITION, reasons.ERROR_REASON_INSTRUMENT_REFUSED),
    errors.TotalTooLarge: (grpc.StatusCode.FAILED_PRECONDITION, reasons.ERROR_REASON_TOTAL_TOO_LARGE),
}


def call_error_of(refusal: errors.Refused) -> CallError:
    """The refusal as the caller gets it."""
    code, reason = REFUSALS[type(refusal)]
    return CallError(code, reason, str(refusal))
