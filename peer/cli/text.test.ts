import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { progressLine, RateMeter, TerminalProgress } from './progress.ts'
import { renderTable } from './table.ts'
import { count, duration, list, plain, shorten, width } from './text.ts'

describe('values as people read them', () => {
  test.each([
    [0, '0.0 s'],
    [9.94, '9.9 s'],
    [59.4, '59 s'],
    [60, '1 min'],
    [200, '3 min 20 s'],
    [7500, '2 h 5 min'],
    [90_000, '1 d 1 h'],
  ])('%d seconds are %s', (seconds, text) => {
    expect(duration(seconds)).toBe(text)
  })

  test('counts and lists are sentences', () => {
    expect([count(1, 'file'), count(0, 'file')]).toEqual(['1 file', '0 files'])
    expect([list([]), list(['a']), list(['a', 'b', 'c'])]).toEqual(['', 'a', 'a, b and c'])
  })
})

describe('width', () => {
  test.each([
    ['abc', 3],
    ['ñandú', 5],
    ['n\u0303', 1],
    ['映画', 4],
    ['한국', 4],
    ['🎬', 2],
    ['👨‍👩‍👧', 2],
  ])('of %s is %i', (text, columns) => {
    expect(width(text)).toBe(columns)
  })

  test('of shortened text is never more than was asked for', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 60 }), fc.nat(40), (text, columns) => {
        expect(width(shorten(text, columns))).toBeLessThanOrEqual(columns)
      }),
    )
  })

  test('of a shortened name keeps beginning and extension', () => {
    expect(shorten('a-very-long-name.mkv', 11)).toBe('a-ver…e.mkv')
    expect(shorten('short.mkv', 11)).toBe('short.mkv')
  })
})

test('a table is never wider than the terminal, whatever is in it', () => {
  const cell = fc.oneof(
    fc.string({ unit: 'grapheme', maxLength: 80 }),
    fc.array(fc.string({ maxLength: 80 }), { maxLength: 3 }),
  )
  fc.assert(
    fc.property(
      fc.array(fc.tuple(cell, cell, cell), { maxLength: 5 }),
      fc.integer({ min: 20, max: 200 }),
      (rows, columns) => {
        const lines = renderTable(
          [{ title: 'NAME', shrinks: true }, { title: 'SIZE', align: 'right' }, { title: 'PEERS' }],
          rows,
          { columns, paint: plain },
        )
        for (const line of lines) expect(width(line)).toBeLessThanOrEqual(columns)
      },
    ),
  )
})

describe('progress', () => {
  const state = { label: 'film.mkv', bytes: 450_000_000, total: 1_000_000_000, rate: 100_000_000 }

  test('says percent, sizes, rate and time left', () => {
    expect(progressLine({ ...state, columns: 100 })).toBe(
      `film.mkv ${'━'.repeat(18)}${'─'.repeat(22)}  45 %  450 MB of 1 GB  100 MB/s  5.5 s left`,
    )
  })

  test('leaves the bar away before anything else where the terminal is narrow', () => {
    expect(progressLine({ ...state, columns: 57 })).toBe('film.mkv  45 %  450 MB of 1 GB  100 MB/s  5.5 s left')
  })

  const swarm = { ...state, parts: '461/1024 pieces', peers: 5 }

  test('says pieces and peers where they are known', () => {
    expect(progressLine({ ...swarm, columns: 130 })).toBe(
      `film.mkv ${'━'.repeat(18)}${'─'.repeat(22)}  45 %  450 MB of 1 GB  461/1024 pieces  5 peers  100 MB/s  5.5 s left`,
    )
    expect(progressLine({ ...swarm, peers: 1, columns: 130 })).toContain('  1 peer  ')
  })

  test('leaves out pieces first where the terminal is narrow, then peers, then the bar', () => {
    const seen: string[] = []
    for (let columns = 120; columns >= 50; columns--) {
      const line = progressLine({ ...swarm, columns })
      const shown = ['pieces', 'peers', '━', 'left'].filter((part) => line.includes(part)).join(' ')
      if (seen.at(-1) !== shown) seen.push(shown)
    }
    expect(seen).toEqual(['pieces peers ━ left', 'peers ━ left', '━ left', 'left'])
  })

  test('says the unit once where it is the same', () => {
    const amounts = { bytes: 1_200_000_000, total: 2_700_000_000 }
    expect(progressLine({ ...state, ...amounts, columns: 100 })).toContain('  1.2 of 2.7 GB  ')
  })

  test('fits the terminal, with room for the ^C that it echoes', () => {
    for (let columns = 10; columns < 150; columns++)
      for (const shown of [state, swarm])
        expect(width(progressLine({ ...shown, label: 'a-long-name'.repeat(9), columns }))).toBeLessThanOrEqual(
          columns - 3,
        )
  })

  test('promises no time where nothing comes', () => {
    expect(progressLine({ ...state, rate: 0, columns: 100 })).not.toContain('left')
  })

  test('makes way for what is said, and goes on below it', () => {
    const terminal = { text: '', isTTY: true, columns: 90, write: (text: string) => (terminal.text += text) }
    const progress = new TerminalProgress('film.mkv', terminal)
    progress.phase('paused')
    progress.interject(() => terminal.write('something happened\n'))
    // Where the library goes back to at the end: it would clear another line than its own.
    expect(terminal.text).toMatch(/\r\x1b\[2Ksomething happened\n\x1b7$/)
    progress.stop()
  })

  test('a rate forgets what is long ago', () => {
    let now = 0
    const meter = new RateMeter(() => now)
    meter.at(0)
    const reading = (seconds: number, bytes: number) => {
      now += seconds * 1000
      return meter.at(bytes)
    }
    expect(reading(1, 100)).toBe(100)
    expect(reading(1, 200)).toBe(100)
    expect(reading(20, 2200)).toBeCloseTo(100, 0)
    expect(reading(20, 2200)).toBeCloseTo(0, 0)
  })
})
