"""Unions of all bodies that the server builds and of all events that its clients receive."""

from __future__ import annotations

from stream.protocol.wire import (
    alerts,
    analysis,
    conversation,
    notices,
    recordings,
    session,
    subscriber,
)

StreamBody = (
    session.SessionCreatedBody
    | session.SessionUpdatedBody
    | session.SessionResumedBody
    | session.SessionAnnotatedBody
    | session.SessionClosedBody
    | session.AudioAckBody
    | session.StreamDetachedBody
    | session.StreamPausedBody
    | session.StreamResumedBody
    | analysis.AnalysisBody
    | conversation.ConversationBody
    | alerts.AlertBody
    | notices.WarningBody
    | notices.ErrorBody
)
"""Event of a stream without its common fields."""

StreamEvent = (
    session.SessionCreated
    | session.SessionUpdated
    | session.SessionResumed
    | session.SessionAnnotated
    | session.SessionClosed
    | session.AudioAck
    | session.StreamDetached
    | session.StreamPaused
    | session.StreamResumed
    | analysis.SpeechStart
    | analysis.SpeechEnd
    | analysis.EmotionScore
    | analysis.EmotionSegment
    | analysis.StreamGap
    | conversation.Conversation
    | alerts.Alert
    | notices.Warning
    | notices.Error
)
"""Event of a stream, for its producer and, with `sub`, for subscribers."""

Answer = (
    subscriber.Subscribed
    | subscriber.Unsubscribed
    | subscriber.Subscriptions
    | subscriber.Snapshot
    | subscriber.Lagged
    | alerts.AlertRules
    | alerts.AlertAcknowledged
    | notices.Refusal
)
"""Answer to a subscriber."""

FileEvent = (
    recordings.FilesReady
    | recordings.FileAccepted
    | recordings.FileProgress
    | recordings.FileLog
    | recordings.FileDone
    | recordings.FileCancelled
    | analysis.FileSpeechStart
    | analysis.FileSpeechEnd
    | analysis.FileEmotionScore
    | analysis.FileEmotionSegment
    | analysis.FileStreamGap
    | notices.FileError
    | subscriber.Lagged
)
"""Message on `/v1/files`."""

ReplyBody = (
    subscriber.SubscribedBody
    | subscriber.UnsubscribedBody
    | subscriber.SubscriptionsBody
    | subscriber.SnapshotBody
    | subscriber.LaggedBody
    | alerts.AlertRulesBody
    | alerts.AlertAcknowledgedBody
    | recordings.FilesReadyBody
    | recordings.FileAcceptedBody
    | recordings.FileProgressBody
    | recordings.FileLogBody
    | recordings.FileDoneBody
    | recordings.FileCancelledBody
    | analysis.FileAnalysisBody
    | notices.FileErrorBody
)
"""Message that belongs to no stream, without its common fields."""
