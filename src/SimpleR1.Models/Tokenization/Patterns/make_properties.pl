# Writes properties.txt: the code points of every script, and of three properties that .NET does not tell.
# The Unicode data is that of the Perl that runs this.
use strict;
use warnings;
use Unicode::UCD qw(prop_invlist prop_values);

open(my $out, '>', 'properties.txt') or die $!;
print $out "# Unicode ", Unicode::UCD::UnicodeVersion(), ", made by make_properties.pl: name, then ranges of code points\n";
my @scripts = map { ["Script=$_", (Unicode::UCD::prop_value_aliases('Script', $_))[1] // $_] } prop_values('Script');
my @others = map { [$_, $_] } qw(Alphabetic Lowercase Uppercase Extended_Pictographic);
for my $p (sort { $a->[1] cmp $b->[1] } @scripts, @others) {
    my ($property, $name) = @$p;
    next if $name eq 'Unknown';
    my @list = prop_invlist($property);
    my @ranges;
    while (@list) {
        my ($first, $next) = (shift @list, shift(@list) // 0x110000);
        push @ranges, $next - 1 == $first ? sprintf('%X', $first) : sprintf('%X-%X', $first, $next - 1);
    }
    print $out join(' ', $name, @ranges), "\n" if @ranges;
}
