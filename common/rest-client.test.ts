import { createServer, type Server, type Socket } from 'node:net'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { afterEach, expect, test } from 'vitest'
import { z } from 'zod'
import { deadline } from './deadline.ts'
import { RestClient } from './rest-client.ts'

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

/** A server that says this much of an answer and no more; its URL. */
async function stuck(beginning = '', sockets: Socket[] = []): Promise<string> {
  const server: Server = createServer((socket) => {
    sockets.push(socket)
    socket.on('error', () => {})
    socket.once('data', () => socket.write(beginning))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  cleanups.push(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return `http://127.0.0.1:${(server.address() as { port: number }).port}`
}

test.each([
  ['nothing', '', 'unavailable'],
  ['half of its answer', 'HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"a":', 'unavailable'],
  ['half of an error', 'HTTP/1.1 500 Oh\r\ncontent-length: 100\r\n\r\n{"error":', 'corrupt'],
])(
  'a call to a server that sends %s ends in time, whatever the garbage collector takes',
  async (_, beginning, code) => {
    const client = new RestClient({ name: 'the friend', baseUrl: await stuck(beginning), timeoutMs: 200 })
    cleanups.push(() => client.close())
    const longLived = new AbortController()
    const calls = [undefined, longLived.signal].map((signal) => client.call('GET', '/', z.unknown(), { signal }))
    const ended = Promise.all(calls.map((call) => expect(call).rejects.toMatchObject({ code })))
    const collecting = setInterval(collectGarbage, 20)
    cleanups.push(() => clearInterval(collecting))
    await ended
  },
)

test('however many calls there are, their connections are bounded, and each still ends in time', async () => {
  const opened: Socket[] = []
  const client = new RestClient({ name: 'the friend', baseUrl: await stuck('', opened), timeoutMs: 300 })
  cleanups.push(() => client.close())
  const calls = Array.from({ length: 300 }, () => client.call('GET', '/', z.unknown()))
  for (const { status } of await Promise.allSettled(calls)) expect(status).toBe('rejected')
  expect(opened.length).toBeLessThan(150)
})

test('a call ends with the signal of its caller', async () => {
  const client = new RestClient({ name: 'the friend', baseUrl: await stuck() })
  cleanups.push(() => client.close())
  const caller = new AbortController()
  const call = client.call('GET', '/', z.unknown(), { signal: caller.signal })
  caller.abort()
  await expect(call).rejects.toMatchObject({ code: 'cancelled' })
})

test('a call that ends with a deadline of its caller was not answered in time', async () => {
  const client = new RestClient({ name: 'the friend', baseUrl: await stuck() })
  cleanups.push(() => client.close())
  const { signal } = deadline(100)
  await expect(client.call('GET', '/', z.unknown(), { signal })).rejects.toMatchObject({
    code: 'unavailable',
    details: { reason: 'timeout' },
  })
})

test('a server that speaks something other than HTTP, as a gRPC port does, is told as such', async () => {
  // The settings that an HTTP/2 server begins with.
  const baseUrl = await stuck('\x00\x00\x00\x04\x00\x00\x00\x00\x00')
  const client = new RestClient({ name: 'the peer', baseUrl, timeoutMs: 2000 })
  cleanups.push(() => client.close())
  await expect(client.call('GET', '/info', z.unknown())).rejects.toMatchObject({
    code: 'corrupt',
    message: `the peer at ${baseUrl} speaks something other than HTTP: is that its gRPC port?`,
  })
})

test('only an answer that may be endless is longer than what is kept of one', async () => {
  const size = 40 * 1024 * 1024
  const head = `HTTP/1.1 200 OK\r\ncontent-length: ${size}\r\n\r\n`
  const client = new RestClient({ name: 'the agent', baseUrl: await stuck(head + 'x'.repeat(size)) })
  cleanups.push(() => client.close())
  const read = async (endless: boolean) => {
    let bytes = 0
    const { body } = await client.send('GET', '/', { endless })
    for await (const chunk of body) bytes += (chunk as Buffer).length
    return bytes
  }
  expect(await read(true)).toBe(size)
  await expect(read(false)).rejects.toThrow('exceeded max size')
})
