<?php
// MediaWiki as a client of decant: reads one JSON command a line on standard input, answers one JSON line on
// standard output. Keys are base64, values base64 of PHP's serialize(), so that both are exact whatever they hold.
//
//   {"op":"make","store":NAME,"class":"RedisBagOStuff"|"RESTBagOStuff","params":{...},"hmac_key":BASE64?}
//   {"op":"get"|"set"|"add"|"delete"|"incr"|"decr"|"incrWithInit"|"merge","store":NAME,"key":KEY,...}
//   {"op":"getMulti"|"deleteMulti","store":NAME,"keys":[KEY...]}   {"op":"setMulti",...,"pairs":[[KEY,VALUE]...]}
//   {"op":"makeKey"|"makeGlobalKey","store":NAME,"components":[KEY...]}
//   {"op":"encode"|"decode",...}: the bytes that the store's class would put on the wire, and back
//   {"op":"values","kind":"plain"|"hard"|"deep"}  {"op":"random","seed":N,"count":N,"hard":BOOL}  {"op":"curl","method":M,"url":U,"body":BASE64?}
//
// Every answer has "log" (what MediaWiki logged at info and above, and PHP's own notices); of a store also "error"
// (getLastError). A thrown exception is answered as "exception".

declare( strict_types=1 );

namespace Decant;

ini_set( 'display_errors', 'stderr' );
ini_set( 'memory_limit', '512M' );
error_reporting( E_ALL );
require __DIR__ . '/library.php';
require __DIR__ . '/prefixed.php';
require __DIR__ . '/values.php';
require __DIR__ . '/commands.php';

$journal = new Journal;
// MediaWiki 1.39 on PHP 8.2 is deprecated in places; only what a value does wrong is of interest.
set_error_handler( static function ( int $level, string $message ) use ( $journal ) {
	$journal->lines[] = "php: $message";
	return true;
}, E_ALL & ~E_DEPRECATED );

$commands = new Commands( $journal );
while ( ( $line = fgets( STDIN ) ) !== false ) {
	$command = json_decode( $line, true, 512, JSON_THROW_ON_ERROR );
	try {
		$answer = $commands->run( $command );
	} catch ( \Throwable $e ) {
		$answer = [ 'exception' => get_class( $e ) . ': ' . $e->getMessage() ];
	}
	$answer['log'] = $journal->take();
	fwrite( STDOUT, json_encode( $answer, JSON_INVALID_UTF8_SUBSTITUTE | JSON_THROW_ON_ERROR ) . "\n" );
}
