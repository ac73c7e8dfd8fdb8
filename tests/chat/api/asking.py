"""Operations of GraphQL, sent to a server."""

from __future__ import annotations

from typing import Any

from tests.server.running import Running

CREATE = """mutation CreateConversation($input: CreateConversationInput!) {
  createConversation(input: $input) {
    message conversation { id tabName llmModel modelProvider isPrivate createdAt updatedAt } } }"""
ADD = """mutation SendMessage($input: AddMessageInput!) {
  addMessage(input: $input) {
    message
    userMessage { id text sender timestamp hasImages images { id filename fileSize mimeType contentHash createdAt } }
    llmMessage { id text sender timestamp hasImages partial finishReason llmModel modelProvider }
    llmModel error code errorCode hint fallback llmResponseTime } }"""
MESSAGES = """query GetMessages($conversationId: String!, $password: String) {
  messages(conversationId: $conversationId, password: $password) {
    id text sender timestamp hasImages images { id url } } }"""
DELETE = """mutation DeleteConversation($conversationId: String!, $password: String) {
  deleteConversation(conversationId: $conversationId, password: $password) { message conversationId success } }"""
DELETE_AFTER = """mutation DeleteMessagesAfter($conversationId: ID!, $messageId: ID!) {
  deleteMessagesAfter(conversationId: $conversationId, messageId: $messageId) { message deletedCount success } }"""
TERMINATE = """mutation TerminateStream($input: TerminateStreamInput!) {
  terminateStream(input: $input) {
    success sessionId message partialResponse tokenCount finalStatus terminationReason error } }"""


def answer(server: Running, query: str, key: str | None = None, **variables: Any) -> dict[str, Any]:
    """The body of the answer to an operation."""
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    response = server.post("/graphql", {"query": query, "variables": variables}, headers=headers)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def data(server: Running, query: str, key: str | None = None, **variables: Any) -> Any:
    """The data of an operation without errors, of its one field."""
    found = answer(server, query, key, **variables)
    assert "errors" not in found, found
    (value,) = found["data"].values()
    return value


def error(server: Running, query: str, key: str | None = None, **variables: Any) -> dict[str, Any]:
    """The one error of an operation."""
    found = answer(server, query, key, **variables)
    assert found.get("data") is None, found
    (entry,) = found["errors"]
    assert isinstance(entry["message"], str)
    assert {"code", "errorCode"} <= set(entry["extensions"])
    return dict(entry)
