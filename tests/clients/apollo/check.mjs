// Apollo Client, with the operations of a page that chats.
import assert from 'node:assert/strict'
import { ApolloClient, HttpLink, InMemoryCache, gql } from '@apollo/client'
import { CHAT, URL_BASE, check, main } from './checks.mjs'

const client = new ApolloClient({ link: new HttpLink({ uri: `${URL_BASE}/graphql` }), cache: new InMemoryCache() })
const MODEL = `hf:${CHAT}`
const options = { temperature: 0, maxTokens: 9 }

const query = async (text, variables) =>
  (await client.query({ query: gql(text), variables, fetchPolicy: 'network-only' })).data
const mutate = async (text, variables) => (await client.mutate({ mutation: gql(text), variables })).data

const CREATE = `mutation CreateConversation($input: CreateConversationInput!) {
  createConversation(input: $input) {
    message conversation { id tabName llmModel isPrivate createdAt updatedAt } } }`
const ADD = `mutation SendMessage($input: AddMessageInput!) {
  addMessage(input: $input) {
    message userMessage { id text sender timestamp hasImages images { id filename fileSize mimeType contentHash createdAt } }
    llmMessage { id text sender timestamp hasImages images { id filename fileSize mimeType contentHash createdAt } }
    llmModel error llmResponseTime } }`
const MESSAGES = `query GetMessages($conversationId: String!) {
  messages(conversationId: $conversationId) {
    id text sender timestamp hasImages images { id filename fileSize mimeType contentHash createdAt url } } }`

const conversation = async (input = {}) =>
  (await mutate(CREATE, { input: { tabName: 'A tab', llmModel: MODEL, ...input } })).createConversation.conversation

check('lists_the_names_of_models', async () => {
  const { availableModels } = await query('query GetAvailableModels { availableModels { models count } }')
  assert(availableModels.models.includes(MODEL))
  assert.equal(availableModels.count, availableModels.models.length)
})

check('lists_what_is_known_of_models', async () => {
  const { modelInfos } = await query(
    '{ modelInfos(provider: "huggingface") { name displayName capabilities { maxContextLength } metadata { size } } }')
  assert(modelInfos.find(one => one.name === MODEL).metadata.size > 0)
})

check('answers_a_message_and_lists_the_conversation', async () => {
  const { id } = await conversation({ id: 'apollo-1' })
  const { addMessage } = await mutate(ADD, { input: { conversationId: id, text: 'abc', sender: 'user', options } })
  assert.equal(addMessage.error, null)
  assert.equal(addMessage.llmMessage.text.length, 9)
  assert(Date.parse(addMessage.llmMessage.timestamp) > 0)
  const { messages } = await query(MESSAGES, { conversationId: id })
  assert.deepEqual(messages.map(one => one.sender), ['user', 'llm'])
  const { conversations } = await query(`query GetConversations {
    conversations { conversations { id tabName llmModel isPrivate createdAt updatedAt messageCount } count } }`)
  assert(conversations.conversations.some(one => one.id === id && one.messageCount === 2))
})

check('answers_again_after_a_deletion', async () => {
  const { id } = await conversation()
  for (const text of ['a', 'b']) await mutate(ADD, { input: { conversationId: id, text, options } })
  const { messages } = await query(MESSAGES, { conversationId: id })
  const { deleteMessagesAfter } = await mutate(`mutation DeleteMessagesAfter($conversationId: ID!, $messageId: ID!) {
    deleteMessagesAfter(conversationId: $conversationId, messageId: $messageId) { message deletedCount success } }`,
  { conversationId: id, messageId: messages[1].id })
  assert.equal(deleteMessagesAfter.deletedCount, 2)
  const { deleteConversation } = await mutate(`mutation DeleteConversation($conversationId: String!) {
    deleteConversation(conversationId: $conversationId) { message conversationId success } }`, { conversationId: id })
  assert(deleteConversation.success)
})

check('reads_errors_with_their_codes', async () => {
  const failed = await query(MESSAGES, { conversationId: 'no-such' }).catch(error => error)
  assert.equal(failed.errors[0].extensions.code, 'conversation_not_found')
  assert.equal(failed.errors[0].extensions.errorCode, 'HF_UNKNOWN_ERROR')
})

// As pages read it: at blank lines, with a prefix of each event.
async function * events (body) {
  const headers = { 'content-type': 'application/json' }
  const response = await fetch(`${URL_BASE}/api/stream-message`, { method: 'POST', headers, body: JSON.stringify(body) })
  assert.equal(response.status, 200)
  const decoder = new TextDecoder()
  let buffer = ''
  for await (const bytes of response.body) {
    buffer += decoder.decode(bytes, { stream: true })
    const whole = buffer.split('\n\n')
    buffer = whole.pop()
    yield * whole
  }
}

check('streams_a_message', async () => {
  const { id } = await conversation()
  let text = ''
  let session = null
  let ended = false
  for await (const event of events({ model: MODEL, message: 'abc', conversationId: id, options })) {
    if (event.startsWith('data: ')) text += JSON.parse(event.slice(6)).token
    else if (event.startsWith('event: session')) session = JSON.parse(event.split('data: ')[1]).sessionId
    else if (event.startsWith('event: end')) ended = true
    else assert.fail(event)
  }
  assert(session && ended)
  const { messages } = await query(MESSAGES, { conversationId: id })
  assert.equal(messages[1].text, text)
})

check('terminates_a_stream', async () => {
  const { id } = await conversation()
  const TERMINATE = `mutation TerminateStream($input: TerminateStreamInput!) {
    terminateStream(input: $input) {
      success sessionId message partialResponse tokenCount finalStatus terminationReason error } }`
  for await (const event of events({ model: MODEL, message: 'abc', conversationId: id, options: { maxTokens: 50 } })) {
    if (event.startsWith('event: session')) {
      const sessionId = JSON.parse(event.split('data: ')[1]).sessionId
      const { terminateStream } = await mutate(TERMINATE, { input: { sessionId, conversationId: id } })
      // The answer of this small model may be complete before the request to end it arrives.
      assert(terminateStream.success ? terminateStream.finalStatus === 'terminated' : terminateStream.error)
    }
  }
})

main('@apollo/client', JSON.parse(
  (await import('node:fs')).readFileSync(new URL('./node_modules/@apollo/client/package.json', import.meta.url))).version)
