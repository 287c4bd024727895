import { describe, expect, test } from 'vitest'
import { type LookupStep, STRATEGIES } from '../../common/schemas.ts'
import { gaps, levelOf, type NetworkState, noneAnswered } from './outcome.ts'

const step = (
  strategy: LookupStep['strategy'],
  outcome: LookupStep['outcome'],
  more: Partial<LookupStep> = {},
): LookupStep => ({
  ...{ strategy, outcome, asked: strategy, found: 0, ms: 1, detail: null },
  ...{ messages: 1, hops: null, path: [], age_ms: null, silent: [] },
  ...more,
})

const all: NetworkState = { strategies: STRATEGIES, maestro: 'answers', ring: 'whole', neighbours: 4, friends: 2 }

describe('the level', () => {
  test.each([
    [{}, 'maestro', 'the Maestro answers'],
    [{ maestro: 'down' }, 'ring', 'Maestro down: using the ring'],
    [{ maestro: 'none', ring: 'small' }, 'ring', 'no Maestro configured: using the ring'],
    [{ maestro: 'down', ring: 'alone' }, 'neighbours', 'Maestro down, ring of one: asking neighbours'],
    [
      { maestro: 'down', ring: 'repairing' },
      'neighbours',
      'Maestro down, the ring is being repaired: asking neighbours',
    ],
    [{ maestro: 'none', ring: 'off' }, 'neighbours', 'no Maestro configured, no part in the ring: asking neighbours'],
    [{ maestro: 'down', ring: 'alone', neighbours: 0 }, 'friends', 'Maestro down, ring of one: asking friends'],
    [
      { maestro: 'none', ring: 'alone', neighbours: 0, friends: 0 },
      'alone',
      "nobody answers: only this peer's own files are found",
    ],
    [{ maestro: 'down', strategies: ['local', 'maestro', 'friends'] }, 'friends', 'Maestro down: asking friends'],
  ] as const)('with %j is %s: %s', (known, level, text) => {
    expect(levelOf({ ...all, ...known })).toEqual({ level, text })
  })

  test('of a lookup is what its steps found, whatever was known before', () => {
    const text = (known: Partial<NetworkState>, ...steps: LookupStep[]) => levelOf({ ...all, ...known }, steps).text
    const down = step('maestro', 'skipped')
    expect(text({}, down, step('chord', 'found', { age_ms: 39_200 }))).toBe(
      'Maestro down: using the ring; records up to 40 s old',
    )
    expect(text({ maestro: 'down' }, step('maestro', 'nothing'))).toBe('the Maestro answers')
    expect(text({}, step('maestro', 'refused'), step('chord', 'found'))).toBe('the Maestro refuses: using the ring')
    expect(text({}, down, step('chord', 'unreachable'), step('flood', 'found'))).toBe(
      'Maestro down, the ring is being repaired: asking neighbours',
    )
    expect(text({ ring: 'alone' }, down, step('chord', 'found'))).toBe('Maestro down: using the ring')
    const silent = [step('friends', 'timeout'), down, step('chord', 'timeout'), step('flood', 'unreachable')]
    expect(levelOf(all, silent).level).toBe('alone')
    expect(levelOf(all, [...silent, step('friends', 'nothing')]).level).toBe('friends')
    const refused = STRATEGIES.filter((name) => name !== 'local').map((name) => step(name, 'refused'))
    expect(levelOf(all, refused).level).toBe('alone')
  })
})

describe('what is known', () => {
  test('is nothing where nobody answered, those skipped included', () => {
    const local = step('local', 'nothing')
    expect(noneAnswered([local, step('maestro', 'skipped'), step('chord', 'unreachable')])).toBe(true)
    expect(noneAnswered([local, step('maestro', 'skipped'), step('flood', 'nothing')])).toBe(false)
    expect(noneAnswered([local])).toBe(false)
  })

  test('is nothing where those asked refused: a refusal is no knowledge', () => {
    const local = step('local', 'nothing')
    expect(noneAnswered([local, step('maestro', 'refused')])).toBe(true)
    expect(noneAnswered([local, step('friends', 'refused'), step('maestro', 'timeout')])).toBe(true)
    expect(noneAnswered([local, step('maestro', 'refused'), step('friends', 'nothing')])).toBe(false)
  })

  test('has no gap by a ring or neighbours that are silent, where the directory answered', () => {
    const substitutes = [step('chord', 'unreachable'), step('flood', 'timeout')]
    const friend = step('friends', 'skipped')
    expect(gaps([step('maestro', 'nothing'), friend, ...substitutes])).toEqual([friend])
    expect(gaps([step('maestro', 'timeout'), ...substitutes])).toHaveLength(3)
    expect(gaps([step('maestro', 'refused'), ...substitutes])).toHaveLength(3)
    expect(gaps([step('maestro', 'refused'), step('chord', 'nothing')])).toEqual([step('maestro', 'refused')])
  })
})
