import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { z } from 'zod'
import { loadConfig, pathKey, portKey } from './config.ts'
import { eventKeys } from './events/config.ts'

const folder = mkdtempSync(join(tmpdir(), 'config-'))
afterAll(() => rmSync(folder, { recursive: true }))

const Schema = z.strictObject({
  id: z.string(),
  port: portKey().default(8000),
  shared_dir: pathKey(),
  quiet: z.boolean().default(false),
  state_dir: pathKey().optional(),
})

function file(content: unknown): string {
  const path = join(folder, `${Math.random()}.json`)
  writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content))
  return path
}
const load = (content: unknown, env = {}, flags = {}) => loadConfig(Schema, { file: file(content), env, flags })

describe('a configuration', () => {
  test('takes the file, overridden by the environment, overridden by flags', () => {
    const content = { id: 'A', port: 1, shared_dir: 's' }
    expect(load(content).port).toBe(1)
    expect(load(content, { P2P_PORT: '2' }).port).toBe(2)
    expect(load(content, { P2P_PORT: '2' }, { port: '3' }).port).toBe(3)
    expect(load(content, { P2P_QUIET: 'true', P2P_ID: '17' })).toMatchObject({ quiet: true, id: '17' })
  })

  test("counts the file's paths from its own folder, and typed ones from the working folder", () => {
    expect(load({ id: 'A', shared_dir: 'peer1/shared' }).shared_dir).toBe(join(folder, 'peer1/shared'))
    expect(load({ id: 'A', shared_dir: 's', state_dir: 'st' }).state_dir).toBe(join(folder, 'st'))
    expect(load({ id: 'A', shared_dir: 's' }, {}, { shared_dir: 'x' }).shared_dir).toBe(join(process.cwd(), 'x'))
  })

  test.each([
    ['an unknown key', { id: 'A', shared_dir: 's', prot: 1 }, 'unknown key "prot" (did you mean "port"?)'],
    [
      'a value of the wrong type',
      { id: 'A', shared_dir: 's', port: 'x' },
      '"port" has a bad value "x": it must be a number',
    ],
    [
      'a port out of range',
      { id: 'A', shared_dir: 's', port: 70000 },
      '"port" has a bad value 70000: it must be at most 65535',
    ],
    ['a missing key', { id: 'A' }, 'the key "shared_dir" is missing'],
    ['bad JSON', '{"id":', 'not valid JSON'],
    ['something that is no object', '[1]', 'is a JSON object'],
  ])('with %s is one error that names the key', (_, content, message) => {
    expect(() => load(content)).toThrow(message)
  })

  test.each([
    ['webhook_secret', 'hunter2'],
    ['events', 'amqp//guest:hunter2@rabbit'],
    ['events', 'amqp:guest:hunter2'],
  ])('never shows what may be a password: %s', (key, value) => {
    const refusal = () => loadConfig(z.strictObject(eventKeys), { file: file({ [key]: value }), env: {}, flags: {} })
    expect(refusal).toThrow(`the key "${key}" has a bad value`)
    expect(refusal).not.toThrow('hunter2')
  })

  test('that is not there is one error that names the file', () => {
    expect(() => loadConfig(Schema, { file: join(folder, 'none.json'), env: {}, flags: {} })).toThrow(
      'none.json: there is no such',
    )
  })

  test('names the environment variable or flag that a bad value came from', () => {
    expect(() => load({ id: 'A', shared_dir: 's' }, { P2P_PORT: 'x' })).toThrow('environment variable P2P_PORT')
    expect(() => load({ id: 'A', shared_dir: 's' }, {}, { state_dir: '' })).not.toThrow()
    expect(() => load({ id: 'A', shared_dir: 's' }, {}, { port: '-1' })).toThrow('flag --port')
  })
})
