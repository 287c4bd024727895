import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { isFileName, parseContentId, parseFileName, parsePeerId, printable } from './ids.ts'

describe('a file name', () => {
  test.each([
    'a.txt',
    'lectures/week 1/notes (final).pdf',
    'canción.mp3',
    '日本語/ファイル.bin',
    'a+b=c,d@e.tar.gz',
    '...'.replace('...', 'x...y'),
    `${'a'.repeat(255)}`,
    '👩🏽.png',
    'Ünïcödé/ñandú.txt',
  ])('may be %j', (name) => {
    expect(parseFileName(name)).toBe(name.normalize('NFC'))
  })

  test.each([
    ['', 'empty'],
    ['../x', 'climbs'],
    ['a/../b', 'climbs'],
    ['a/..', 'climbs'],
    ['./a', 'climbs'],
    ['/etc/passwd', 'absolute'],
    ['..\\x', 'backslash'],
    ['C:\\x', 'backslash'],
    ['a//b', 'empty part'],
    ['a/', 'empty part'],
    ['a\0b', 'control'],
    ['a\nb', 'control'],
    ['a\x1b[31mb', 'control'],
    ['a\u202Egpj.exe', 'formatting'],
    ['a\u200Bb', 'formatting'],
    ['a\uFEFFb', 'formatting'],
    ['a\u2028b', 'control'],
    ['a\uE000b', 'private'],
    ['a\uFFFFb', 'private'],
    ['a\uD800b', 'private'],
    ['\uFF0E\uFF0E\uFF0Fx', 'look like'],
    ['a\uFF0Fb', 'look like'],
    ['a\u2215b', 'look like'],
    ['a\u2044b', 'look like'],
    ['a\uFF3Cb', 'look like'],
    ['\u2025/x', 'look like'],
    ['a'.repeat(256), '255'],
    [`${'ñ'.repeat(128)}`, '255'],
    [`${'a/'.repeat(512)}a`, '1024'],
    ['.bashrc', 'hidden'],
    ['a/.git/config', 'hidden'],
    ['con', 'reserved'],
    ['a/NUL.txt', 'reserved'],
    ['COM¹', 'reserved'],
    ['a.', 'ends with'],
    ['a /b', 'ends with'],
  ])('may not be %j', (name, why) => {
    expect(() => parseFileName(name)).toThrow(why)
    expect(isFileName(name)).toBe(false)
  })

  test('in decomposed Unicode is brought to normal form C', () => {
    expect(parseFileName('cancio\u0301n')).toBe('canci\u00F3n')
    expect(isFileName('cancio\u0301n')).toBe(false)
  })

  test('whatever it is, never leads out of the folder it is joined to', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 40 }), (text) => {
        if (!isFileName(text)) return
        for (const part of text.normalize('NFKC').split(/[/\\]/)) expect(['', '.', '..']).not.toContain(part)
      }),
      { numRuns: 2000 },
    )
  })
})

test('a content id is 64 hex digits, in lower case', () => {
  expect(parseContentId('AB'.repeat(32))).toBe('ab'.repeat(32))
  for (const bad of ['', 'ab', 'g'.repeat(64), `${'a'.repeat(64)} `])
    expect(() => parseContentId(bad)).toThrow('64 hex')
})

test('a peer id has no room for anything but a plain word', () => {
  expect(parsePeerId('lab-7.P1_a')).toBe('lab-7.P1_a')
  for (const bad of ['', '-a', 'a b', 'a/b', 'é', 'a'.repeat(65), 'a\n'])
    expect(() => parsePeerId(bad)).toThrow('peer id')
})

test('what is printed has no control characters and is bounded', () => {
  expect(printable('a\x1b[2Jb\u202E')).toBe('a\\u{1b}[2Jb\\u{202e}')
  expect(printable('x'.repeat(1000)).length).toBeLessThan(130)
})
