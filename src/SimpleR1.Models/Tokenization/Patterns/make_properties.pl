# Writes properties.txt: the code points of every script, and of properties that .NET does not tell. Writes
# case_folding.txt: what each code point is without regard to case.
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

open(my $folds, '>', 'case_folding.txt') or die $!;
print $folds "# Unicode ", Unicode::UCD::UnicodeVersion(), ", made by make_properties.pl: code point, folded code point\n";
for my $point (0 .. 0x1FFFF) {
    my $fold = Unicode::UCD::casefold($point);
    print $folds "$fold->{code} $fold->{simple}\n" if $fold && $fold->{simple} ne '';
}
